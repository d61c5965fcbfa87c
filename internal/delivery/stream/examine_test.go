package stream

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/backing/backingtest"
	"github.com/bankfeed/bankfeed/wire/banqup"
)

func find(t *testing.T, list []Finding, subject string) Finding {
	t.Helper()
	for _, f := range list {
		if f.Subject == subject {
			return f
		}
	}
	t.Fatalf("nothing about %s in %v", subject, list)
	return Finding{}
}

func TestExamineSaysWhatIsKnownOfEachExchange(t *testing.T) {
	address := backingtest.AMQPURL(t)
	settings := testSettings(bankfeed.Secret(address))
	settings.Queues = []string{"finat", "nobody"}
	list := Examine(t.Context(), settings, nil)
	require.Equal(t, FindingOK, find(t, list, "broker").Level)
	require.Equal(t, FindingOK, find(t, list, "round trip").Level, find(t, list, "round trip").Text)
	require.Contains(t, find(t, list, "exchange call").Text, "does not exist yet")

	l, st := &memoryLog{}, &memoryStore{}
	consume(t, address, "finat", banqup.Transaction)
	start(t, testConfig(t, st, l, bankfeed.Secret(address)))
	l.add(bankfeed.EventTransactionCreated, 1)
	l.add(bankfeed.EventBankCalled, 0)
	eventually(t, "both are confirmed", func() bool { return st.now().Position == 2 })
	record := st.record
	list = Examine(t.Context(), settings, &record)
	require.Equal(t, FindingOK, find(t, list, "exchange transaction").Level)
	require.Contains(t, find(t, list, "exchange transaction").Text, "was routed")
	require.Equal(t, FindingWarn, find(t, list, "exchange call").Level, "the hub's own queues count as no binding")
	require.Contains(t, find(t, list, "exchange call").Text, "no queue was ever bound")
	require.Contains(t, find(t, list, "exchange account").Text, "nothing published yet")
	require.Contains(t, find(t, list, "queue finat").Text, "1 consumers")
	require.Equal(t, FindingWarn, find(t, list, "queue nobody").Level)
	require.Contains(t, find(t, list, "cursor").Text, "position 2")
	require.Contains(t, find(t, Examine(t.Context(), settings, nil), "exchange transaction").Text, "nothing is known", "without the database")

	require.Contains(t, find(t, Examine(t.Context(), settings, &Record{}), "cursor").Text, "no node has led")
	require.Contains(t, find(t, Examine(t.Context(), settings, &Record{Term: 1, Leader: "n"}), "cursor").Text, "stored nothing yet")

	settings.URL = bankfeed.Secret(strings.Replace(address, "guest:guest", "guest:hunter2", 1))
	list = Examine(t.Context(), settings, nil)
	require.Equal(t, FindingFail, find(t, list, "broker").Level)
	require.NotContains(t, find(t, list, "broker").Text, "hunter2")
}
