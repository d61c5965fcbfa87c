package process

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/client"
	"github.com/bankfeed/bankfeed/wire/finapi"
)

// Run works on open processes until ctx ends: it looks into callbacks, asks where
// none came, and goes on with scenarios, those that an earlier program left included. It returns
// nil once what it was doing has been put down.
func (s *Service) Run(ctx context.Context) error {
	var workers sync.WaitGroup
	defer workers.Wait()
	var busy atomic.Int64
	freed := make(chan struct{}, 1)
	failures := 0
	var pruned time.Time
	for ctx.Err() == nil {
		wait := idle
		if free := s.o.Workers - int(busy.Load()); free > 0 {
			now := s.now()
			due, next, err := s.o.Store.Claim(ctx, now, now.Add(lease), free)
			switch {
			case err != nil && ctx.Err() == nil:
				s.o.Log.WarnContext(ctx, "process: the store does not answer", "err", err)
				wait = backoff(failures)
				failures++
			case err == nil:
				failures = 0
				if !next.IsZero() {
					wait = min(idle, max(next.Sub(now), 10*time.Millisecond))
				}
			}
			for _, r := range due {
				busy.Add(1)
				workers.Go(func() {
					s.work(ctx, r)
					busy.Add(-1)
					signal(freed)
				})
			}
		}
		if now := s.now(); now.Sub(pruned) >= time.Hour {
			pruned = now
			s.prune(ctx, now)
		}
		select {
		case <-ctx.Done():
		case <-s.wake:
		case <-freed:
		case <-time.After(wait):
		}
	}
	return nil
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

func (s *Service) prune(ctx context.Context, now time.Time) {
	ended := time.Unix(0, 0)
	if s.o.KeepEnded > 0 {
		ended = now.Add(-s.o.KeepEnded)
	}
	if err := s.o.Store.Prune(ctx, now.Add(-s.o.KeepChanges), ended); err != nil && ctx.Err() == nil {
		s.o.Log.WarnContext(ctx, "process: old changes could not be removed", "err", err)
	}
}

// worker has claimed a process.
type worker struct {
	s     *Service
	r     Record // as it was stored last
	token bankfeed.Secret
}

// work goes on with a process as far as it can.
func (s *Service) work(ctx context.Context, r Record) {
	w := &worker{s: s, r: r}
	more, err := w.open(ctx)
	for more && err == nil && ctx.Err() == nil {
		more, err = w.step(ctx)
	}
	if ctx.Err() != nil && !w.r.Status.Ended() {
		// A stop is no failure: whoever runs next goes on at once.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stepTimeout)
		defer cancel()
		err = w.save(ctx, func(r *Record) error { r.release(s.now()); return nil })
	}
	if err != nil && !errors.Is(err, errTaken) && !errors.Is(err, ErrNotFound) {
		s.o.Log.WarnContext(ctx, "process: it is left until the claim on it ends", "process", r.ID, "err", err)
	}
}

// open decrypts the token. more is false if there is nothing to do with it now.
func (w *worker) open(ctx context.Context) (more bool, err error) {
	s := w.s
	token, err := s.o.Sealer.Decrypt(w.r.Token, []byte(w.r.ID))
	if err != nil {
		s.o.Log.ErrorContext(ctx, "process: the stored token cannot be opened", "process", w.r.ID, "err", err)
		since, most := w.r.CreatedAt, s.o.Poll.GiveUp
		if w.r.Status == SyncSuccessful {
			since, most = w.r.SucceededAt, s.o.ContinueWithin
		}
		if errors.Is(err, ErrNoKey) || s.now().Sub(since) >= most {
			return false, w.abort(ctx, Reason{Code: CodeTokenLost, Message: "the stored access token cannot be opened"})
		}
		return false, w.save(ctx, func(r *Record) error {
			r.release(s.now().Add(backoff(r.Failures)))
			r.Failures++
			return nil
		})
	}
	w.token = bankfeed.Secret(token)
	if _, ok := s.o.Scenarios[w.r.Scenario]; !ok {
		return false, w.abort(ctx, Reason{Code: CodeNoScenario, Message: "the application does not know the scenario"})
	}
	return true, nil
}

// step does what is next. An error means that nothing could be stored; what a
// server or a scenario said is in the process.
func (w *worker) step(ctx context.Context) (more bool, err error) {
	switch w.r.Status {
	case SyncCreated:
		if len(w.r.Hint) > 0 && !w.r.CallbackAt.IsZero() {
			return w.check(ctx)
		}
		return false, w.synchronize(ctx)
	case SyncStarted:
		return w.check(ctx)
	case SyncSuccessful:
		return false, w.proceed(ctx)
	default:
		return false, nil
	}
}

// save stores a change of the process that this worker has claimed, and keeps
// the claim if the change leaves it.
func (w *worker) save(ctx context.Context, edit func(*Record) error) error {
	r, err := w.s.change(ctx, w.r.ID, w.r.Fence, func(r *Record) error {
		if r.Status.Ended() { // by the answer that somebody else waited for
			return errTaken
		}
		if !r.LeaseUntil.IsZero() {
			r.LeaseUntil = w.s.now().Add(lease)
		}
		return edit(r)
	})
	if err == nil {
		w.r = r
	}
	return err
}

// endError ends a process.
type endError struct{ Reason }

func (e *endError) Error() string { return "process: " + e.Code + ": " + e.Message }

// call asks the server with the user's token, and once more with a new one if
// the server no longer takes it.
func (w *worker) call(ctx context.Context, do func(ctx context.Context, token bankfeed.Secret) error) error {
	ctx, cancel := context.WithTimeout(ctx, stepTimeout)
	defer cancel()
	err := do(ctx, w.token)
	if !client.Expired(err) {
		return err
	}
	end := &endError{reasonOf(err)}
	end.Code = CodeTokenExpired
	if w.s.o.Token == nil {
		return end
	}
	token, tokenErr := w.s.o.Token(ctx, w.r.Process)
	var refused *client.Error
	switch {
	case errors.Is(tokenErr, ErrLater), errors.As(tokenErr, &refused) && passing(tokenErr):
		return ErrLater
	case tokenErr != nil || token == "":
		w.s.o.Log.WarnContext(ctx, "process: there is no new token", "process", w.r.ID, "err", tokenErr)
		return end
	}
	sealed, sealErr := w.s.o.Sealer.Encrypt([]byte(token), []byte(w.r.ID))
	if sealErr != nil {
		return sealErr
	}
	if err := w.save(ctx, func(r *Record) error { r.Token = sealed; return nil }); err != nil {
		return err
	}
	w.token = token
	if err = do(ctx, w.token); client.Expired(err) {
		return end
	}
	return err
}

// reasonOf says why, in the server's words.
func reasonOf(err error) Reason {
	var e *client.Error
	if !errors.As(err, &e) {
		return Reason{Code: CodeNoAnswer, Message: "the server could not be reached"}
	}
	why := Reason{Code: e.Code, Message: e.Message, HTTP: e.Status, RequestID: e.RequestID}
	if why.Code == "" {
		why.Code = "HTTP_" + strconv.Itoa(e.Status)
	}
	return why
}

// passing reports whether the same call may succeed later.
func passing(err error) bool {
	var e *client.Error
	if !errors.As(err, &e) {
		return true // no answer, or half of one
	}
	switch e.Status {
	case http.StatusRequestTimeout, http.StatusLocked, http.StatusTooEarly, http.StatusTooManyRequests:
		return true
	case http.StatusNotImplemented, http.StatusNotExtended: // the bank cannot, or its user must
		return false
	}
	return e.Status >= 500 || e.Code == codeIllegalState
}

const codeUpdateRequired = string(finapi.CodeUpdateRequired)

// codeIllegalState is the answer while a data source is not SUCCESSFUL, which it
// is not again while another synchronization runs.
const codeIllegalState = string(finapi.CodeIllegalEntityState)

// later is how long to wait after a call that failed.
func later(err error, failures int) time.Duration {
	var e *client.Error
	if errors.As(err, &e) && e.RetryAfter > 0 {
		return e.RetryAfter
	}
	return backoff(failures)
}

// check asks the server what is true.
func (w *worker) check(ctx context.Context) (more bool, err error) {
	s, began := w.s, w.s.now()
	sources := append([]Source(nil), w.r.Sources...)
	if len(sources) == 0 {
		for _, id := range w.r.Hint {
			sources = append(sources, Source{ID: id})
		}
	}
	var failed error
	var bad *Reason
	asking, cancel := context.WithTimeout(ctx, stepTimeout)
	defer cancel()
	for i := range sources {
		src := &sources[i]
		if st := client.SourceStatus(src.Status); st.Successful() || st.Failed() {
			continue // a final word of this synchronization
		}
		var answer client.StatusResult
		failed = w.call(asking, func(ctx context.Context, token bankfeed.Secret) (err error) {
			answer, err = s.o.API.Status(ctx, token, src.ID)
			return err
		})
		if failed != nil {
			var end *endError
			if errors.As(failed, &end) {
				bad = &end.Reason
			} else if !errors.Is(failed, ErrLater) && !passing(failed) {
				why := reasonOf(failed)
				why.Source = src.ID
				bad = &why
			}
			break
		}
		src.Status, src.Code = string(answer.Status), answer.Code
	}
	if ctx.Err() != nil || errors.Is(failed, errTaken) {
		return false, failed
	}
	err = w.save(ctx, func(r *Record) error {
		now := s.now()
		if r.Status != SyncCreated && r.Status != SyncStarted {
			return errUnchanged
		}
		merge(r, sources)
		r.CheckedAt = now
		if !r.CallbackAt.After(began) {
			r.CallbackAt = time.Time{}
		}
		switch verdict, why := judge(r.Sources); {
		case bad != nil:
			r.fail(*bad)
		case verdict == client.SourceSuccessful:
			r.Failures, r.SucceededAt = 0, now
			r.CallbackAt, r.Hint = time.Time{}, nil
			r.move(SyncSuccessful)
		case verdict == client.SourceFailed:
			r.fail(why)
		case now.Sub(r.CreatedAt) >= s.o.Poll.GiveUp:
			r.fail(Reason{Code: CodeTimeout, Message: "the synchronization did not come to an end"})
		default:
			next := s.nextPoll(r, now)
			if failed != nil && !errors.Is(failed, ErrLater) {
				next = now.Add(later(failed, r.Failures))
				r.Failures++
			} else {
				r.Failures = 0
				if !r.CallbackAt.IsZero() { // one came while the server was asked
					next = now.Add(minPause)
				}
			}
			r.release(next)
		}
		return nil
	})
	return w.r.Status == SyncSuccessful, err
}

// merge stores what was asked. Meanwhile the answer of Start may have come, with
// the banks' names.
func merge(r *Record, asked []Source) {
	if len(r.Sources) == 0 {
		r.Sources = asked
		return
	}
	for i := range r.Sources {
		for _, src := range asked {
			if src.ID == r.Sources[i].ID {
				r.Sources[i].Status, r.Sources[i].Code = src.Status, src.Code
			}
		}
	}
}

// judge says how all data sources stand together: failed once all have ended
// and one has failed. Unknown words are still running.
func judge(sources []Source) (client.SourceStatus, Reason) {
	var why *Reason
	for _, src := range sources {
		st := client.SourceStatus(src.Status)
		switch {
		case st.Successful():
		case st.Failed():
			if why == nil || src.Code == codeUpdateRequired && why.Code != codeUpdateRequired { // first what somebody can do something about
				why = &Reason{Code: src.Code, Message: "a data source could not be synchronized", Source: src.ID}
				if why.Code == "" {
					why.Code = CodeNotSuccessful
				}
			}
		default:
			return client.SourceInProgress, Reason{}
		}
	}
	if why != nil {
		return client.SourceFailed, *why
	}
	return client.SourceSuccessful, Reason{}
}
