package process_test

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/client"
	"github.com/bankfeed/bankfeed/client/process"
)

func TestCallbackContinues(t *testing.T) {
	each(t, nil, func(w *world) {
		w.callsBack("reports")
		p := w.start("reports")
		require.Equal(w, process.SyncStarted, p.Status)
		require.Len(w, p.Sources, 2)
		require.Equal(w, "Bank 1", p.Sources[0].Bank)

		p = w.ends(p.ID, time.Minute)
		require.Equal(w, process.Done, p.Status)
		require.Equal(w, []process.Status{process.SyncCreated, process.SyncStarted, process.SyncSuccessful, process.Done}, w.history(p.ID))
		require.Equal(w, 1, w.server.count(syncCall))
		require.Equal(w, 2, w.server.count(statusCall), "one question for each data source, after the callback")
		require.Equal(w, 1, w.server.ncases)
		require.Len(w, w.server.reports, 2)
		require.Contains(w, string(p.Results["report:risk/indicators"]), "case-1/reports/risk/indicators")
		r, err := w.store.Get(w.Context(), p.ID)
		require.NoError(w, err)
		require.Nil(w, r.Token, "an ended process keeps no token")
	})
}

func TestCallbackTwiceLateOutOfOrder(t *testing.T) {
	each(t, nil, func(w *world) {
		first, second := w.start("reports"), w.start("checks")
		require.Equal(w, 204, w.deliver("checks", second.ID, "ERROR"), "out of order, and it says the opposite")
		require.Equal(w, 204, w.deliver("reports", first.ID, "SUCCESSFUL"))
		require.Equal(w, 204, w.deliver("reports", first.ID, "SUCCESSFUL"))
		one, two := w.ends(first.ID, time.Minute), w.ends(second.ID, time.Minute)
		require.Equal(w, process.Done, one.Status)
		require.Equal(w, process.Done, two.Status, "what the callback says is not believed, neither way")
		calls := len(w.server.calls)
		for range 3 {
			require.Equal(w, 204, w.deliver("reports", first.ID, "ERROR"), "late")
		}
		pass(10 * time.Minute)
		require.Len(w, w.server.calls, calls, "a late callback causes nothing")
		require.Equal(w, 1, w.server.ncases)
		require.Equal(w, 1, w.server.checks)
		require.Equal(w, one, get(w, first.ID))
	})
}

func get(w *world, id string) process.Process {
	w.Helper()
	p, err := w.svc.Get(w.Context(), id)
	require.NoError(w, err)
	return p
}

func TestCallbackBeforeAnswerIsStored(t *testing.T) {
	each(t, nil, func(w *world) {
		w.callsBack("reports")
		w.server.syncFor = 100 * time.Millisecond
		w.server.after = func(c callOf) *resp {
			if c.path == "/api/v1/dataSources/bankConnections/synchronization" {
				pass(10 * time.Second)
			}
			return nil
		}
		p := w.start("reports")
		require.Equal(w, process.SyncStarted, p.Status)
		p = w.ends(p.ID, 10*time.Second)
		require.Equal(w, process.Done, p.Status)
		require.Equal(w, 1, w.server.count(syncCall))
		require.Equal(w, []process.Status{process.SyncCreated, process.SyncStarted, process.SyncSuccessful, process.Done}, w.history(p.ID))
	})
}

func TestSignedCallbackBeforeAnswerIsStored(t *testing.T) {
	change := func(o *process.Options) { o.Webhook = &hook }
	each(t, change, func(w *world) {
		w.server.callback = func(handle string) {
			body := `{"callbackHandle":"` + handle + `","dataSourceIds":["` + w.server.sources[0] + `","` + w.server.sources[1] + `"]}`
			require.Equal(w, 401, w.post("reports", body, nil))
			require.Equal(w, 401, w.post("reports", body, sign(w.T, "whsec_c2Vjb25kIHNlY3JldCwgd2hpY2ggaXMgd3Jvbmc=", body)))
			require.Equal(w, 204, w.post("reports", body, sign(w.T, hook.Secrets[0], body)))
		}
		w.server.syncFor = 100 * time.Millisecond
		w.server.after = func(c callOf) *resp {
			if c.path == "/api/v1/dataSources/bankConnections/synchronization" {
				pass(10 * time.Second)
			}
			return nil
		}
		p := w.start("reports") // returns after 10 s
		require.Equal(w, process.Done, p.Status, "Start's late answer moves nothing back")
		p = w.ends(p.ID, 10*time.Second)
		require.Equal(w, []process.Status{process.SyncCreated, process.SyncSuccessful, process.Done}, w.history(p.ID), "straight from SYNC_CREATED")
		require.Equal(w, 1, w.server.count(syncCall))
		require.Equal(w, 1, w.server.ncases)
	})
}

// The process ends while a worker, whom a signed callback has called, asks for a
// new token.
func TestEndedWhileItIsWorkedOn(t *testing.T) {
	var asked atomic.Int32
	each(t, func(o *process.Options) { o.Webhook, o.Token = &hook, tokens(&asked, "token-2") }, func(w *world) {
		asked.Store(0)
		w.server.answer = `{"bankConnections":null}`
		w.server.after = func(c callOf) *resp {
			switch kind(c.method, c.path) {
			case syncCall:
				pass(10 * time.Second)
			case statusCall:
				pass(12 * time.Second)
				return says(401, `{"error":"invalid_token"}`)
			}
			return nil
		}
		const id = "2b1f6f5e-1111-4222-8333-444444444444"
		go func() {
			pass(time.Second)
			body := `{"callbackHandle":"` + id + `","dataSourceIds":["` + w.server.sources[0] + `"],"status":"SUCCESSFUL"}`
			assert.Equal(w, 204, w.post("reports", body, sign(w.T, hook.Secrets[0], body)))
		}()
		p, err := w.svc.Start(w.Context(), process.Order{ID: id, Scenario: "reports", Token: "token-1"})
		require.NoError(w, err)
		require.Equal(w, process.SyncFailed, p.Status)
		pass(time.Minute)
		require.EqualValues(w, 1, asked.Load(), "the worker was at work meanwhile")
		r, err := w.store.Get(w.Context(), id)
		require.NoError(w, err)
		require.Equal(w, p, r.Process)
		require.Nil(w, r.Token, "an ended process keeps no token")
		require.Zero(w, r.NextAt, "and nobody looks at it again")
		require.NoError(w, w.store.Delete(w.Context(), id))
	})
}

func TestUnsignedCallbackNamesNoDataSources(t *testing.T) {
	change := func(o *process.Options) {
		lenient := hook
		lenient.AllowUnsigned = true
		o.Webhook = &lenient
	}
	each(t, change, func(w *world) {
		w.server.syncFor = 0
		var answered time.Time
		w.server.after = func(c callOf) *resp {
			if c.path != "/api/v1/dataSources/bankConnections/synchronization" {
				return nil
			}
			// One of two data sources, by somebody who knows the handle.
			body := `{"callbackHandle":"` + c.body[strings.LastIndex(c.body, `":"`)+3:len(c.body)-2] + `","dataSourceIds":["` + w.server.sources[0] + `"]}`
			require.Equal(w, 204, w.post("reports", body, nil))
			pass(10 * time.Second)
			answered = time.Now()
			return nil
		}
		p := w.ends(w.start("reports").ID, time.Minute)
		require.Equal(w, process.Done, p.Status)
		require.Len(w, p.Sources, 2)
		for _, at := range w.server.times(statusCall) {
			require.False(w, at.Before(answered))
		}
	})
}

func TestForgedCallbackCompletesNothing(t *testing.T) {
	each(t, nil, func(w *world) {
		w.server.syncFor = time.Hour
		p := w.start("reports")
		for range 100 {
			require.Equal(w, 204, w.deliver("reports", p.ID, "SUCCESSFUL"))
		}
		pass(10 * time.Second)
		require.Equal(w, process.SyncStarted, get(w, p.ID).Status)
		require.LessOrEqual(w, w.server.count(statusCall), 2*2, "a flood of them is one question, or two")
		require.Zero(w, w.server.ncases)

		require.Equal(w, 404, w.deliver("checks", p.ID, "SUCCESSFUL"), "another scenario's path")
		require.Equal(w, 404, w.deliver("reports", "4e760145-2e65-4242-ac33-488943528c93", "SUCCESSFUL"))
		require.Equal(w, 400, w.post("reports", `{"status":"SUCCESSFUL"}`, nil))
		require.Equal(w, 400, w.post("reports", `callbackHandle=x`, nil))
		require.Equal(w, 413, w.post("reports", `{"callbackHandle":"`+string(make([]byte, 100<<10))+`"}`, nil))
	})
}

func TestRefusedSynchronizationIsAborted(t *testing.T) {
	for status, code := range map[int]string{400: "ILLEGAL_FIELD_VALUE", 403: "FORBIDDEN", 429: "TOO_MANY_REQUESTS", 500: "UNEXPECTED_ERROR"} {
		each(t, nil, func(w *world) {
			w.server.before = func(callOf) *resp { return refuses(status, code) }
			p := w.start("reports")
			require.Equal(w, process.SyncFailed, p.Status)
			require.Equal(w, &process.Reason{Code: code, Message: "No.", HTTP: status, RequestID: "r-1"}, p.Reason)
			pass(10 * time.Minute)
			require.Len(w, w.server.calls, 1)
			require.Equal(w, []process.Status{process.SyncCreated, process.SyncFailed}, w.history(p.ID))
		})
	}
	each(t, nil, func(w *world) { // a gateway in between
		w.server.before = func(callOf) *resp { return says(302, "<html>", "Location", "https://elsewhere.example/") }
		p := w.start("reports")
		require.Equal(w, process.SyncFailed, p.Status)
		require.Equal(w, &process.Reason{Code: "HTTP_302", HTTP: 302}, p.Reason)
		require.Len(w, w.server.calls, 1, "a redirect is not followed")
	})
}

func TestUnansweredSynchronizationIsRepeated(t *testing.T) {
	each(t, nil, func(w *world) {
		w.callsBack("reports")
		var handles []string
		lost := func(c callOf) *resp {
			if c.path == "/api/v1/dataSources/bankConnections/synchronization" {
				handles = append(handles, c.body)
				if c.n <= 3 {
					return drop
				}
			}
			return nil
		}
		w.server.after = lost // the server has begun, but its answer breaks off
		p := w.start("reports")
		require.Equal(w, process.SyncCreated, p.Status)
		p = w.ends(p.ID, time.Minute)
		require.Equal(w, process.Done, p.Status)
		require.Len(w, handles, 4)
		require.Contains(w, handles[0], p.ID)
		for _, h := range handles {
			require.Equal(w, handles[0], h, "the same handle each time")
		}
		require.Equal(w, 1, w.server.ncases)
	})
	each(t, nil, func(w *world) {
		w.server.before = func(callOf) *resp { return drop }
		p := w.start("reports")
		began := time.Now()
		p = w.ends(p.ID, time.Hour)
		require.Equal(w, process.SyncFailed, p.Status)
		require.Equal(w, process.CodeNoAnswer, p.Reason.Code)
		require.InDelta(w, 5.5, time.Since(began).Minutes(), 0.6)
	})
}

func TestNoDataSources(t *testing.T) {
	for _, answer := range []string{`{"bankConnections":null}`, `{"bankConnections":[]}`, `{}`, `null`} {
		each(t, nil, func(w *world) {
			w.server.answer = answer
			p := w.start("reports")
			require.Equal(w, process.SyncFailed, p.Status)
			require.Equal(w, process.CodeNoDataSources, p.Reason.Code)
			require.Zero(w, w.server.ncases)
		})
	}
}

func TestWordsOfTheServer(t *testing.T) {
	for _, word := range []string{"FAILED", "ERROR"} {
		each(t, nil, func(w *world) {
			w.callsBack("reports")
			w.server.status, w.server.code = word, "UPDATE_REQUIRED"
			p := w.ends(w.start("reports").ID, time.Minute)
			require.Equal(w, process.SyncFailed, p.Status)
			require.Equal(w, "UPDATE_REQUIRED", p.Reason.Code)
			require.Equal(w, w.server.sources[0], p.Reason.Source)
			require.Zero(w, w.server.ncases)
		})
	}
	each(t, nil, func(w *world) {
		w.callsBack("reports")
		w.server.status, w.server.code = "ERROR", "BANK_UNAVAILABLE"
		w.server.codes = map[string]string{w.server.sources[1]: "UPDATE_REQUIRED"}
		p := w.ends(w.start("reports").ID, time.Minute)
		require.Equal(w, "UPDATE_REQUIRED", p.Reason.Code, "what the user can do something about comes first")
		require.Equal(w, w.server.sources[1], p.Reason.Source)
	})
	each(t, nil, func(w *world) {
		w.callsBack("reports")
		w.server.status, w.server.code = "ALMOST_THERE", "NEW_CODE"
		p := w.start("reports")
		pass(time.Minute)
		require.Equal(w, process.SyncStarted, get(w, p.ID).Status, "an unknown word is no end")
		require.Equal(w, "ALMOST_THERE", get(w, p.ID).Sources[0].Status)
		w.server.set(func() { w.server.status = "SUCCESSFUL" })
		require.Equal(w, process.Done, w.ends(p.ID, time.Minute).Status)
	})
}

func TestTokenExpires(t *testing.T) {
	expire := func(w *world, to string) func(callOf) *resp {
		return func(c callOf) *resp {
			if kind(c.method, c.path) == to {
				w.server.set(func() { delete(w.server.tokens, "token-1") })
			}
			return nil
		}
	}
	for call, status := range map[string]process.Status{syncCall: process.SyncFailed, statusCall: process.SyncFailed, caseCall: process.Failed} {
		each(t, nil, func(w *world) {
			w.callsBack("reports")
			w.server.before = expire(w, call)
			p := w.ends(w.start("reports").ID, time.Minute)
			require.Equal(w, status, p.Status, call)
			require.Equal(w, process.CodeTokenExpired, p.Reason.Code)
			require.Equal(w, 401, p.Reason.HTTP)
		})
		var asked atomic.Int32
		change := func(o *process.Options) { o.Token = tokens(&asked, "token-2") }
		each(t, change, func(w *world) {
			asked.Store(0)
			w.callsBack("reports")
			w.server.tokens["token-2"] = true
			w.server.before = expire(w, call)
			p := w.ends(w.start("reports").ID, time.Minute)
			require.Equal(w, process.Done, p.Status, call)
			require.EqualValues(w, 1, asked.Load(), "the new token is stored")
			require.Equal(w, 1, w.server.ncases)
		})
	}
	var asked atomic.Int32
	change := func(o *process.Options) { // whoever gives tokens is overloaded for a while
		o.Token = func(context.Context, process.Process) (bankfeed.Secret, error) {
			if asked.Add(1) <= 5 {
				return "", fmt.Errorf("a token: %w", &client.Error{Status: 503})
			}
			return "token-2", nil
		}
	}
	for call := range map[string]bool{syncCall: true, statusCall: true, caseCall: true} {
		each(t, change, func(w *world) {
			asked.Store(0)
			w.callsBack("reports")
			w.server.tokens["token-2"] = true
			w.server.before = expire(w, call)
			p := w.ends(w.start("reports").ID, time.Hour)
			require.Equal(w, process.Done, p.Status, "%s: %+v", call, p.Reason)
		})
	}
	change = func(o *process.Options) { o.Token = tokens(&asked, "token-3") }
	each(t, change, func(w *world) { // the new one is not taken either
		asked.Store(0)
		w.callsBack("reports")
		w.server.before = expire(w, caseCall)
		p := w.ends(w.start("reports").ID, time.Minute)
		require.Equal(w, process.Failed, p.Status)
		require.Equal(w, process.CodeTokenExpired, p.Reason.Code)
		require.EqualValues(w, 1, asked.Load())
	})
}

func TestPassingFaults(t *testing.T) {
	faults := map[string]func() *resp{
		"reset": func() *resp { return drop }, "500": func() *resp { return says(500, "oops") }, "503": func() *resp { return says(503, "") },
		"423": func() *resp { return refuses(423, "LOCKED") }, "half an answer": func() *resp { return says(200, `{"id":"c`) },
		"429": func() *resp { return says(429, "", "Retry-After", "7") },
	}
	for name, fault := range faults {
		for _, k := range []string{statusCall, caseCall, "POST /api/v1/cases/{id}/reports/risk/indicators", "GET /api/v1/cases/{id}/reports/risk/indicators"} {
			each(t, nil, func(w *world) {
				w.callsBack("reports")
				w.server.before = func(c callOf) *resp {
					if kind(c.method, c.path) == k && c.n <= 3 {
						return fault()
					}
					return nil
				}
				p := w.ends(w.start("reports").ID, 2*time.Minute)
				require.Equal(w, process.Done, p.Status, "%s at %s: %+v", name, k, p.Reason)
				require.Equal(w, 1, w.server.ncases)
				if name == "429" {
					at := w.server.times(k)
					require.GreaterOrEqual(w, at[1].Sub(at[0]), 7*time.Second, "Retry-After")
				}
			})
		}
	}
	each(t, nil, func(w *world) { // another synchronization runs
		w.callsBack("reports")
		w.server.before = func(c callOf) *resp {
			if kind(c.method, c.path) == caseCall && c.n <= 2 {
				return refuses(422, "ILLEGAL_ENTITY_STATE")
			}
			return nil
		}
		require.Equal(w, process.Done, w.ends(w.start("reports").ID, time.Minute).Status)
	})
	each(t, nil, func(w *world) { // not one that passes
		w.callsBack("reports")
		w.server.before = func(c callOf) *resp {
			if kind(c.method, c.path) == caseCall {
				return refuses(422, "TOO_MANY_IDS")
			}
			return nil
		}
		p := w.ends(w.start("reports").ID, time.Minute)
		require.Equal(w, process.Failed, p.Status)
		require.Equal(w, "TOO_MANY_IDS", p.Reason.Code)
		require.Equal(w, 1, w.server.count(caseCall))
	})
	each(t, nil, func(w *world) { // the data source was deleted meanwhile
		p := w.start("reports")
		w.server.set(func() { w.server.sources = w.server.sources[1:] })
		p = w.ends(p.ID, time.Minute)
		require.Equal(w, process.SyncFailed, p.Status)
		require.Equal(w, "UNKNOWN_ENTITY", p.Reason.Code)
	})
	each(t, func(o *process.Options) { o.ContinueWithin = 10 * time.Minute }, func(w *world) { // it never recovers
		w.callsBack("reports")
		w.server.before = func(c callOf) *resp {
			if kind(c.method, c.path) == caseCall {
				return says(503, "")
			}
			return nil
		}
		p := w.ends(w.start("reports").ID, 15*time.Minute)
		require.Equal(w, process.Failed, p.Status)
		require.Equal(w, "HTTP_503", p.Reason.Code)
	})
}
