//go:build unix

package test

import (
	"errors"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/backing/backingtest"
	"github.com/bankfeed/bankfeed/internal/sandbox"
	"github.com/bankfeed/bankfeed/test/masstransit"
	"github.com/bankfeed/bankfeed/wire/banqup"
)

// TestStreamConsumerThrows: a consumer throws at some messages. Each of its faults
// is in the hub's record, by message, and no other.
func TestStreamConsumerThrows(t *testing.T) {
	t.Parallel()
	s := newStreaming(t, backingtest.AMQPURL(t), masstransit.Options{Throw: func(j *masstransit.Judgement) error {
		id, err := strconv.Atoi(j.Text("data.id"))
		if j.Type == masstransit.TransactionMessage && err == nil && id%100 == 0 {
			return errors.New("no such customer")
		}
		return nil
	}})
	s.over()
	v := s.settle("consumer throws", inOrder)
	require.Zero(t, v.repeated, "a message that a consumer refused is not sent again by itself")
	var thrown []string
	for _, e := range s.Rejected() {
		require.Equal(t, masstransit.Faulted, e.Verdict, e.Reason)
		require.Equal(t, "no such customer", e.Reason)
		thrown = append(thrown, e.ID.String())
	}
	require.Greater(t, len(thrown), 20)
	faults := func() int {
		for _, x := range s.state().Exchanges {
			if x.Message == string(banqup.Transaction) {
				return x.Faults
			}
		}
		return 0
	}
	eventually(t, time.Minute, "the hub knows of all", func() bool { return faults() == len(thrown) })
	var recorded []string
	for after := ""; ; {
		var page struct {
			Items []struct {
				MessageID string `json:"message_id"`
				Message   string `json:"message"`
				Fault     struct {
					Type string `json:"type"`
					Text string `json:"text"`
					Host string `json:"host"`
				} `json:"fault"`
			} `json:"items"`
			Next string `json:"next"`
		}
		s.c.must(http.MethodGet, "/v1/streams/main/faults?after="+url.QueryEscape(after), nil, &page)
		for _, f := range page.Items {
			recorded = append(recorded, f.MessageID)
			require.Equal(t, "transaction", f.Message)
			require.Equal(t, "no such customer", f.Fault.Text)
			require.NotEmpty(t, f.Fault.Type)
			require.Equal(t, "CONSUMER-01", f.Fault.Host)
		}
		if after = page.Next; after == "" {
			break
		}
	}
	require.ElementsMatch(t, thrown, recorded)
	var story struct {
		State string `json:"state"`
	}
	s.c.must(http.MethodGet, "/v1/streams/main/events/"+thrown[0], nil, &story)
	require.Equal(t, "faulted", story.State)
	s.c.must(http.MethodGet, "/v1/streams/main/events/"+s.Entries()[0].ID.String(), nil, &story)
	require.Equal(t, "routed", story.State)
}

// TestStreamJourney: consumers of MassTransit 7 and 8 accept every message of
// what users go through: linking, a sync, the next days' syncs, and the deletion
// of the consent.
func TestStreamJourney(t *testing.T) {
	t.Parallel()
	s := newStreaming(t, backingtest.AMQPURL(t), masstransit.Options{})
	older := masstransit.Start(t, masstransit.Options{URL: s.address, Queue: "finat-7", Judge: masstransit.Judge{Version: masstransit.V7}})
	bank := startBank(t)
	n := s.streams(newNode(t, "serve", database{dir: t.TempDir()}, bank))
	n.start()
	s.c = newCompany(n)
	s.c.bank = sandbox.ProviderID
	s.open()
	r := s.c.follow(lively...)
	logins := []string{"fine", "pending", "multi-currency", "no-ids"}
	if backingtest.RaceEnabled {
		logins = logins[:2]
	}
	links := syncAll(s.c, logins...)
	for day := 1; day <= 2; day++ {
		bank.do("clock", `{"set":"`+time.Now().UTC().Truncate(24*time.Hour).Add(time.Duration(24*day+9)*time.Hour).Format(time.RFC3339)+`"}`)
		for _, l := range links {
			s.c.must(http.MethodPost, "/v1/connections/"+l.connection+"/sessions", map[string]string{"user": l.user}, nil)
		}
		eventually(t, time.Minute, "the sessions have ended", func() bool { return r.ended() == (day+1)*len(links) })
	}
	s.confirmed(s.head()) // what is deleted is not sent any more
	for i, l := range links {
		if i == 0 { // as clients of banqUP do
			s.c.must(http.MethodDelete, "/api/v2/bank/swift/"+sandbox.BIC+"/bankAccount?userId="+l.user, nil, nil)
			continue
		}
		var list struct {
			Items []struct {
				ID string `json:"id"`
			} `json:"items"`
		}
		s.c.must(http.MethodGet, "/v1/consents?user="+l.user+"&connection="+l.connection, nil, &list)
		require.NotEmpty(t, list.Items)
		for _, consent := range list.Items {
			s.c.must(http.MethodDelete, "/v1/consents/"+consent.ID+"?user="+l.user, nil, nil)
		}
	}
	eventually(t, time.Minute, "the consents are deleted", func() bool {
		return r.count(func(f fact) bool { return f.Type == string(bankfeed.EventConsentDeleted) }) == len(links)
	})
	s.settle("journey", inOrder)
	s.accepted()
	require.Empty(t, older.Rejected())
	kinds := map[string]int{}
	for _, e := range s.Entries() {
		_, class, _ := strings.Cut(e.Type, ":")
		kinds[strings.TrimSpace(class+" "+e.Operation)]++
	}
	t.Logf("accepted by MassTransit 7 and 8: %v", kinds)
	require.Subset(t, slices.Collect(maps.Keys(kinds)), []string{
		"AccountMessage created", "AccountMessage updated", "TransactionMessage created", "TransactionMessage updated", "SessionFinishedMessage",
		"ConsentMessage created", "ConsentMessage deleted", "AspspCall",
	})
	expected, _ := s.expected()
	eventually(t, time.Minute, "the older one has everything", func() bool { return len(older.Lost(expected)) == 0 })
	require.Empty(t, older.Rejected())
	require.Empty(t, older.Unexpected(expected))
}
