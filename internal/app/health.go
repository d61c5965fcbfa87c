package app

import (
	"context"
	"encoding/json"
	"net/http"
	"time"
)

// readiness is the answer of /readyz.
type readiness struct {
	Status   string        `json:"status"` // ready, degraded, stopping, unavailable
	Node     string        `json:"node"`
	Build    string        `json:"build"`
	Database string        `json:"database"` // ok or unreachable
	Workers  []WorkerState `json:"workers"`
}

// pingTimeout bounds how long a health check waits for the database.
const pingTimeout = 2 * time.Second

func (a *App) mountHealth(mux *http.ServeMux) {
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = w.Write([]byte("ok\n"))
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		status, body := a.readiness(r.Context())
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "no-store")
		w.WriteHeader(status)
		e := json.NewEncoder(w)
		e.SetIndent("", "  ")
		_ = e.Encode(body)
	})
	mux.Handle("GET /metrics", a.metrics.Handler())
}

// readiness is 503 while requests should go to another node. A worker that is
// being restarted makes the node degraded but not unready: requests are served.
func (a *App) readiness(ctx context.Context) (int, readiness) {
	r := readiness{Status: "ready", Node: a.node, Build: a.build, Database: "ok", Workers: a.supervisor.snapshot()}
	status := http.StatusOK
	for _, w := range r.Workers {
		if w.State != workerRunning {
			r.Status = "degraded"
		}
	}
	ctx, cancel := context.WithTimeout(ctx, pingTimeout)
	defer cancel()
	if err := a.data.Store.Ping(ctx); err != nil {
		r.Status, r.Database, status = "unavailable", "unreachable", http.StatusServiceUnavailable
	}
	if a.ending.Err() != nil {
		r.Status, status = "stopping", http.StatusServiceUnavailable
	}
	return status, r
}
