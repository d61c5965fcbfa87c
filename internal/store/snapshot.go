package store

import (
	"encoding/json"
	"fmt"
	"strconv"

	"github.com/bankfeed/bankfeed"
)

// snapshots encodes the snapshots of one change. The events of a page share
// their connection, account, session and user; each of these is encoded once
// and spliced in. The result means the same as json.Marshal of the snapshot.
type snapshots struct {
	user       part[bankfeed.UserRef]
	session    part[*bankfeed.SessionRef]
	connection part[*bankfeed.Connection]
	account    part[*bankfeed.Account]
	consent    part[*bankfeed.Consent]
	buf        []byte
}

// part is the encoding of the value that was encoded last.
type part[T comparable] struct {
	value T
	json  []byte
}

func (p *part[T]) encode(v T) ([]byte, error) {
	if p.json != nil && p.value == v {
		return p.json, nil
	}
	b, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	p.value, p.json = v, b
	return b, nil
}

// encode returns bytes that are valid until the next call.
func (e *snapshots) encode(s *bankfeed.Snapshot) ([]byte, error) {
	w := &objectWriter{buf: append(e.buf[:0], '{')}
	w.number("schema", int64(s.Schema))
	w.text("initiator", string(s.Initiator), true)
	w.text("build", s.Build, false)
	w.text("node", s.Node, false)
	shared(w, "user", &e.user, s.User, true)
	shared(w, "session", &e.session, s.Session, s.Session != nil)
	shared(w, "connection", &e.connection, s.Connection, s.Connection != nil)
	w.text("channel", string(s.Channel), true)
	w.text("reason", string(s.Reason), true)
	w.value("failure", s.Failure, s.Failure != nil)
	shared(w, "account", &e.account, s.Account, s.Account != nil)
	w.value("accounts", s.Accounts, len(s.Accounts) > 0)
	w.value("transaction", s.Transaction, s.Transaction != nil)
	if s.LastTransaction != 0 {
		w.number("last_transaction", int64(s.LastTransaction))
	}
	shared(w, "consent", &e.consent, s.Consent, s.Consent != nil)
	w.value("call", s.Call, s.Call != nil)
	w.buf = append(w.buf, '}')
	e.buf = w.buf
	return w.buf, w.err
}

// objectWriter appends the members of a JSON object and keeps the first error.
type objectWriter struct {
	buf []byte
	err error
}

func (w *objectWriter) name(name string) {
	if len(w.buf) > 1 {
		w.buf = append(w.buf, ',')
	}
	w.buf = append(append(append(w.buf, '"'), name...), '"', ':')
}

func (w *objectWriter) raw(name string, b []byte, err error) {
	if err != nil {
		if w.err == nil {
			w.err = fmt.Errorf("%s: %w", name, err)
		}
		return
	}
	w.name(name)
	w.buf = append(w.buf, b...)
}

func (w *objectWriter) number(name string, n int64) {
	w.name(name)
	w.buf = strconv.AppendInt(w.buf, n, 10)
}

func (w *objectWriter) text(name, s string, omitEmpty bool) {
	if s == "" && omitEmpty {
		return
	}
	b, err := json.Marshal(s)
	w.raw(name, b, err)
}

func (w *objectWriter) value(name string, v any, set bool) {
	if !set {
		return
	}
	b, err := json.Marshal(v)
	w.raw(name, b, err)
}

func shared[T comparable](w *objectWriter, name string, p *part[T], v T, set bool) {
	if !set {
		return
	}
	b, err := p.encode(v)
	w.raw(name, b, err)
}

func decodeSnapshot(b []byte) (*bankfeed.Snapshot, error) {
	var s bankfeed.Snapshot
	if err := json.Unmarshal(b, &s); err != nil {
		return nil, fmt.Errorf("decoding a snapshot: %w", err)
	}
	return &s, nil
}
