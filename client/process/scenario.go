package process

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/client"
)

// Scenario is what follows a successful synchronization.
type Scenario struct {
	// Path is where its callbacks arrive, below Options.CallbackURL: /reports.
	Path string
	// Check looks at the parameters of a new process; nil takes all.
	Check func(params map[string]string) error
	// Continue does what follows, in steps. It is called again after a fault that may
	// pass, after ErrLater and after a crash; steps that succeeded are not repeated.
	// Fail ends the process, nil makes it DONE. What takes long belongs into steps:
	// 45 s after the last one began another worker may go on with the process. A call
	// of Continue has 5 minutes.
	Continue func(ctx context.Context, r *Run) error
}

// Fail is an error that ends a process with a reason.
func Fail(code, format string, args ...any) error {
	return &endError{Reason{Code: code, Message: fmt.Sprintf(format, args...)}}
}

// Run is one call of a scenario's Continue.
type Run struct{ w *worker }

// Process is the process as it is stored.
func (r *Run) Process() Process { return r.w.r.clone().Process }

// Param is a parameter, "" if it has none of that name.
func (r *Run) Param(name string) string { return r.w.r.Params[name] }

// DataSources are the ids of what was synchronized.
func (r *Run) DataSources() []string {
	ids := make([]string, len(r.w.r.Sources))
	for i, src := range r.w.r.Sources {
		ids[i] = src.ID
	}
	return ids
}

// Call is a call of the server within a step.
type Call func(ctx context.Context, api *client.DataIntelligence, token bankfeed.Secret) (result any, err error)

// Step makes a call whose result is stored as JSON under the step's name, and
// read into out (nil: not). If the step succeeded before, its stored result is read
// instead. A token that has expired is replaced, and the call repeated; its step must
// bear that.
func (r *Run) Step(ctx context.Context, name string, out any, do Call) error {
	w := r.w
	stored, ok := w.r.Results[name]
	if !ok {
		var result any
		err := w.call(ctx, func(ctx context.Context, token bankfeed.Secret) (err error) {
			result, err = do(ctx, w.s.o.API, token)
			return err
		})
		if err != nil {
			return err
		}
		if stored, err = json.Marshal(result); err != nil {
			return Fail(CodeScenario, "the result of %s cannot be stored", name)
		}
		err = w.save(ctx, func(rec *Record) error {
			if rec.Status != SyncSuccessful {
				return errTaken
			}
			if rec.Results == nil {
				rec.Results = map[string]json.RawMessage{}
			}
			rec.Results[name], rec.Failures = stored, 0
			return nil
		})
		if err != nil {
			return err
		}
	}
	if out == nil {
		return nil
	}
	return json.Unmarshal(stored, out)
}

// proceed calls the scenario and stores what came of it.
func (w *worker) proceed(ctx context.Context) error {
	s := w.s
	err := w.scenario(ctx)
	if errors.Is(err, errTaken) || errors.Is(err, ErrNotFound) {
		return err
	}
	if ctx.Err() != nil {
		return nil //nolint:nilerr // the stop says nothing of the scenario
	}
	if err != nil {
		s.o.Log.InfoContext(ctx, "process: the scenario is not done", "process", w.r.ID, "err", err)
	}
	return w.save(ctx, func(r *Record) error {
		now := s.now()
		var end *endError
		switch {
		case err == nil:
			r.move(Done)
		case errors.As(err, &end):
			r.fail(end.Reason)
		case !errors.Is(err, ErrLater) && !passing(err):
			r.fail(reasonOf(err))
		case now.Sub(r.SucceededAt) >= s.o.ContinueWithin:
			why := reasonOf(err)
			if errors.Is(err, ErrLater) {
				why = Reason{Code: CodeTimeout, Message: "the server did not come to an end"}
			}
			r.fail(why)
		case errors.Is(err, ErrLater):
			r.Failures = 0
			r.release(s.pause(r.SucceededAt, now))
		default:
			r.release(now.Add(later(err, r.Failures)))
			r.Failures++
		}
		return nil
	})
}

// pause is when a report that is being computed should be asked for again.
func (s *Service) pause(since, now time.Time) time.Time {
	if now.Sub(since) < s.o.Poll.SlowAfter {
		return now.Add(jitter(s.o.Poll.Every))
	}
	return now.Add(jitter(s.o.Poll.Slow))
}

func (w *worker) scenario(ctx context.Context) (err error) {
	defer func() {
		if v := recover(); v != nil {
			w.s.o.Log.ErrorContext(ctx, "process: the scenario panicked", "process", w.r.ID, "panic", v, "stack", string(debug.Stack()))
			err = Fail(CodeScenario, "the application's scenario panicked")
		}
	}()
	ctx, cancel := context.WithTimeout(ctx, scenarioTimeout)
	defer cancel()
	return w.s.o.Scenarios[w.r.Scenario].Continue(ctx, &Run{w})
}
