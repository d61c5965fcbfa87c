package process

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"time"

	"github.com/bankfeed/bankfeed/client"
)

// maxCallback is far more than a callback has: ids, a status and a text.
const maxCallback = 64 << 10

// hint is what is read of a callback. None of it is believed: it says which
// process to look at.
type hint struct {
	Handle  string   `json:"callbackHandle"`
	Sources []string `json:"dataSourceIds"`
}

// Callback is the handler of a scenario's callbacks. It answers 204 once the
// callback is stored, also when it comes again, late or early, and lets Run look into
// it. A process that does not exist, or that belongs to another scenario, is 404.
func (s *Service) Callback(scenario string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost {
			w.Header().Set("Allow", http.MethodPost)
			http.Error(w, "POST only", http.StatusMethodNotAllowed)
			return
		}
		text, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxCallback))
		if err != nil {
			var large *http.MaxBytesError
			status := http.StatusBadRequest
			if errors.As(err, &large) {
				status = http.StatusRequestEntityTooLarge
			}
			http.Error(w, "the body cannot be read", status)
			return
		}
		signed, err := s.signed(r.Header, text)
		if err != nil {
			s.o.Log.WarnContext(r.Context(), "process: a callback was refused", "scenario", scenario, "err", err)
			http.Error(w, "the signature is wrong", http.StatusUnauthorized)
			return
		}
		var h hint
		if json.Unmarshal(text, &h) != nil || h.Handle == "" {
			http.Error(w, "the body is not a callback", http.StatusBadRequest)
			return
		}
		_, err = s.change(r.Context(), h.Handle, 0, func(rec *Record) error {
			if rec.Scenario != scenario {
				return ErrNotFound
			}
			return s.heard(rec, h, signed)
		})
		switch {
		case errors.Is(err, ErrNotFound):
			http.Error(w, "there is no such process", http.StatusNotFound)
		case err != nil:
			s.o.Log.ErrorContext(r.Context(), "process: a callback could not be stored", "err", err)
			http.Error(w, "try again later", http.StatusInternalServerError)
		default:
			s.o.Log.InfoContext(r.Context(), "process: a callback came", "process", h.Handle, "scenario", scenario, "signed", signed)
			s.nudge()
			w.WriteHeader(http.StatusNoContent)
		}
	})
}

// signed reports whether the server has signed a callback. An error is a callback
// that must not be heard.
func (s *Service) signed(header http.Header, body []byte) (bool, error) {
	if s.o.Webhook == nil {
		return false, nil
	}
	strict := *s.o.Webhook
	strict.AllowUnsigned = false
	err := strict.Verify(header, body)
	if errors.Is(err, client.ErrUnsigned) && s.o.Webhook.AllowUnsigned {
		return false, s.o.Webhook.Verify(header, body)
	}
	return err == nil, err
}

// Mount adds the handlers of all scenarios to a mux, under prefix and their own
// paths.
func (s *Service) Mount(mux *http.ServeMux, prefix string) {
	for name, sc := range s.o.Scenarios {
		mux.Handle(prefix+sc.Path, s.Callback(name))
	}
}

// heard notes that it is time to look at a process.
func (s *Service) heard(r *Record, h hint, signed bool) error {
	if r.Status != SyncCreated && r.Status != SyncStarted {
		return errUnchanged // it is known already
	}
	early := signed && r.Status == SyncCreated && len(h.Sources) > 0
	if !r.CallbackAt.IsZero() && (!early || len(r.Hint) > 0) {
		return errUnchanged // said before, and still to be looked into
	}
	now := s.now()
	r.CallbackAt, r.NextAt = now, now
	if soonest := r.CheckedAt.Add(minPause); soonest.After(now) {
		r.NextAt = soonest
	}
	if early {
		// The server has ended before its answer to Start was stored, or that answer
		// is lost. Under a signature its list of data sources is as good as the
		// answer's: the process need not wait for whoever asked.
		r.Hint, r.LeaseUntil = h.Sources, time.Time{}
	}
	return nil
}
