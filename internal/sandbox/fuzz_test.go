package sandbox

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
)

// What strangers send never breaks the bank: no panic and no 500.
func FuzzListing(f *testing.F) {
	b, err := New(Config{Seed: 7, Now: func() time.Time { return testNow }, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		f.Fatal(err)
	}
	con := &consent{ID: "c", Channel: embedded, Segment: personal, PSU: "fine", Access: access{AllPSD2: allAccounts},
		Status: statusValid, ValidUntil: 1 << 20, Frequency: maxFrequency}
	b.state.Consents["c"] = con
	rid := resourceID(con, &account{name: "current"})
	f.Add("bookingStatus=both&dateFrom=2026-06-01", "B1")
	f.Add("cursor="+cursor{Account: rid, Status: "all", Size: 3, Offset: 1 << 40, From: -1 << 50, To: 1 << 50}.encode(), "F00000000-20261121-000001")
	f.Add("bookingStatus=booked&entryReferenceFrom=RB00000000-20261121-000001&dateTo=0001-01-01", "b0000000--2026112-00")
	f.Fuzz(func(t *testing.T, query, id string) {
		for _, path := range []string{"/transactions", "/transactions/" + url.PathEscape(id)} {
			r := httptest.NewRequest(http.MethodGet, "/embedded/v1/accounts/"+rid+"/x", http.NoBody)
			r.URL = &url.URL{Path: "/embedded/v1/accounts/" + rid + strings.ReplaceAll(path, "..", ""), RawQuery: query}
			r.Header.Set("X-Request-ID", uuid.NewString())
			r.Header.Set("Consent-ID", "c")
			r.Header.Set("PSU-IP-Address", "192.0.2.1")
			w := httptest.NewRecorder()
			b.ServeHTTP(w, r)
			if w.Code >= 500 {
				t.Fatalf("%s?%s: %d %s", path, query, w.Code, w.Body)
			}
		}
	})
}

func FuzzConsentRequest(f *testing.F) {
	b, err := New(Config{Seed: 7, Now: func() time.Time { return testNow }})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(`{"access":{"allPsd2":"allAccounts"},"recurringIndicator":true,"validUntil":"2026-12-31","frequencyPerDay":4,"combinedServiceIndicator":false}`)
	f.Add(`{"access":{"accounts":[{"iban":null}]},"recurringIndicator":1}`)
	f.Add(`null`)
	f.Fuzz(func(t *testing.T, body string) {
		r := httptest.NewRequest(http.MethodPost, "/embedded/v1/consents", strings.NewReader(body))
		r.Header.Set("X-Request-ID", uuid.NewString())
		r.Header.Set("PSU-IP-Address", "192.0.2.1")
		w := httptest.NewRecorder()
		b.ServeHTTP(w, r)
		if w.Code != 201 && w.Code != 400 {
			t.Fatalf("%d %s", w.Code, w.Body)
		}
	})
}
