package native_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/wire/native"
)

var in = bankfeed.Installation{Born: time.UnixMilli(1_700_000_000_000), Epoch: 1_700_000_000_000}

// A request's event says what its callback says, and names nothing else.
func TestRequestInAnEvent(t *testing.T) {
	e := bankfeed.Event{
		Epoch: in.Epoch, Tenant: 1, Position: 9, Type: bankfeed.EventRequestFinished, User: 11, At: time.Date(2026, 3, 1, 13, 0, 0, 0, time.FixedZone("CET", 3600)),
		Snapshot: &bankfeed.Snapshot{
			Schema: 1, Build: "20260301.1", Node: "0123456789ab",
			User: bankfeed.UserRef{ID: 11, UUID: in.UUID(bankfeed.KindUser, 1, 11), BusinessContext: bankfeed.Individual},
			Request: &bankfeed.RequestRef{
				ID: 5, UUID: in.UUID(bankfeed.KindRequest, 1, 5), Kind: bankfeed.RequestSync, Status: "ERROR", Handle: "my-own", Client: "shop",
				Sources: []bankfeed.SourceRef{
					{Connection: 101, UUID: in.UUID(bankfeed.KindConnection, 1, 101), Outcome: bankfeed.Outcome{Status: bankfeed.OutcomeSucceeded, UserNeeded: true}},
					{Connection: 102, UUID: in.UUID(bankfeed.KindConnection, 1, 102), Outcome: bankfeed.Outcome{
						Status: bankfeed.OutcomeFailed, Failure: &bankfeed.Failure{Reason: bankfeed.FailUnavailable, Retry: true},
					}},
				},
				Page: &bankfeed.PageRef{ID: 6, UUID: in.UUID(bankfeed.KindRequest, 1, 6), Status: "NOT_YET_OPENED"},
				Code: "BANK_UNAVAILABLE", Message: "the bank does not answer",
			},
		},
	}
	r := native.Renderer{Installation: in, Tenant: 1}
	got, err := json.MarshalIndent(r.Event(e), "", "  ")
	require.NoError(t, err)
	require.JSONEq(t, `{
  "id": "018bcfe5-6800-8000-8000-010000000009",
  "position": 9,
  "type": "request.finished",
  "at": "2026-03-01T12:00:00Z",
  "user": "11",
  "data": {
    "schema": 1,
    "build": "20260301.1",
    "node": "0123456789ab",
    "user": {"id": "11", "uuid": "018bcfe5-6800-8002-8000-01000000000b", "business_context": "individual"},
    "request": {
      "id": "5", "uuid": "018bcfe5-6800-8008-8000-010000000005", "kind": "synchronization", "status": "ERROR", "handle": "my-own", "client": "shop",
      "sources": [
        {"connection": "101", "uuid": "018bcfe5-6800-8003-8000-010000000065", "status": "succeeded", "user_needed": true},
        {"connection": "102", "uuid": "018bcfe5-6800-8003-8000-010000000066", "status": "failed", "user_needed": false,
          "failure": {"reason": "bank_unavailable", "retry": true}}
      ],
      "page": {"id": "6", "uuid": "018bcfe5-6800-8008-8000-010000000006", "status": "NOT_YET_OPENED"},
      "code": "BANK_UNAVAILABLE", "message": "the bank does not answer"
    }
  }
}`, string(got))

	again, err := json.MarshalIndent(r.Event(e), "", "  ")
	require.NoError(t, err)
	require.Equal(t, got, again)

	e.Snapshot = nil // its user was erased
	got, err = json.Marshal(r.Event(e))
	require.NoError(t, err)
	require.NotContains(t, string(got), "data")

	e.Snapshot = &bankfeed.Snapshot{Request: &bankfeed.RequestRef{}}
	require.NotNil(t, r.Event(e).Data.Request.Sources, "a list is never null")
}
