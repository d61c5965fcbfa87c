// Package telemetry is how a node reports: its log, its metrics, and which
// build and node it is. It knows nothing of what is reported.
package telemetry

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"

	"github.com/lmittmann/tint"
	"golang.org/x/term"

	"github.com/bankfeed/bankfeed/internal/secret"
)

// NewLogger writes to w: coloured text, plain text or JSON. format auto is
// coloured text on a terminal and JSON elsewhere.
func NewLogger(w io.Writer, format string, level slog.Level) *slog.Logger {
	terminal := IsTerminal(w)
	var h slog.Handler
	if format == "json" || format == "auto" && !terminal {
		h = slog.NewJSONHandler(w, &slog.HandlerOptions{Level: level})
	} else {
		h = tint.NewTextHandler(w, &tint.Options{Level: level, TimeFormat: "15:04:05.000", NoColor: !Coloured(w)})
	}
	return slog.New(requestHandler{maskHandler{h}})
}

type requestKey struct{}

// WithRequestID names the request that a context belongs to; every line that
// is logged with the context says so.
func WithRequestID(ctx context.Context, id string) context.Context {
	return context.WithValue(ctx, requestKey{}, id)
}

// requestHandler adds the request's id.
type requestHandler struct{ slog.Handler }

func (h requestHandler) Handle(ctx context.Context, r slog.Record) error {
	if id, ok := ctx.Value(requestKey{}).(string); ok {
		r = r.Clone()
		r.AddAttrs(slog.String("request_id", id))
	}
	return h.Handler.Handle(ctx, r)
}

func (h requestHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return requestHandler{h.Handler.WithAttrs(attrs)}
}

func (h requestHandler) WithGroup(name string) slog.Handler {
	return requestHandler{h.Handler.WithGroup(name)}
}

// maskHandler masks IBANs in messages and in whatever is written as text:
// banks put them into errors, and nobody who logs one can know.
type maskHandler struct{ slog.Handler }

func (h maskHandler) Handle(ctx context.Context, r slog.Record) error {
	masked := slog.NewRecord(r.Time, r.Level, secret.MaskText(r.Message), r.PC)
	r.Attrs(func(a slog.Attr) bool {
		masked.AddAttrs(maskAttr(a))
		return true
	})
	return h.Handler.Handle(ctx, masked)
}

func (h maskHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return maskHandler{h.Handler.WithAttrs(maskAttrs(attrs))}
}

func (h maskHandler) WithGroup(name string) slog.Handler {
	return maskHandler{h.Handler.WithGroup(name)}
}

func maskAttrs(attrs []slog.Attr) []slog.Attr {
	masked := make([]slog.Attr, len(attrs))
	for i, a := range attrs {
		masked[i] = maskAttr(a)
	}
	return masked
}

// maskAttr leaves a value as it is unless there is something to mask, so that
// the handler below draws it in its own way.
func maskAttr(a slog.Attr) slog.Attr {
	a.Value = a.Value.Resolve()
	switch a.Value.Kind() {
	case slog.KindString:
		a.Value = slog.StringValue(secret.MaskText(a.Value.String()))
	case slog.KindGroup:
		a.Value = slog.GroupValue(maskAttrs(a.Value.Group())...)
	case slog.KindAny:
		var text string
		switch v := a.Value.Any().(type) {
		case error:
			text = fmt.Sprintf("%v", v) // of a nil pointer too
		case fmt.Stringer:
			text = fmt.Sprintf("%v", v)
		default:
			return a
		}
		if masked := secret.MaskText(text); masked != text {
			a.Value = slog.StringValue(masked)
		}
	}
	return a
}

// IsTerminal reports whether a person reads what is written to w.
func IsTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// Coloured reports whether w shows colours and nobody has asked for none
// (no-color.org).
func Coloured(w io.Writer) bool { return os.Getenv("NO_COLOR") == "" && IsTerminal(w) }
