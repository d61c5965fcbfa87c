package sandbox

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"time"
)

const (
	stateFile    = "bank.json"
	stateVersion = 1
	// lazyWrite bounds how long a counter may live in memory only.
	lazyWrite = 100 * time.Millisecond
	// keepConsents bounds the file: beyond it, ended and abandoned consents go, oldest first.
	keepConsents = 5000
)

// state is everything a bank remembers. All the rest is computed from the seed.
type state struct {
	Version        int                       `json:"version"`
	Seed           int64                     `json:"seed"`
	Offset         int64                     `json:"offset"`   // nanoseconds the bank's clock is ahead of the real one
	Sequence       int64                     `json:"sequence"` // of fired transactions
	Down           string                    `json:"down"`
	DelayMS        int64                     `json:"delayMs"`
	Consents       map[string]*consent       `json:"consents"`
	Authorisations map[string]*authorisation `json:"authorisations"`
	Users          map[string]*userState     `json:"users"`
}

// userState is what events have done to one test user.
type userState struct {
	Healed          bool             `json:"healed,omitempty"` // the built-in flaw is off
	PasswordExpired bool             `json:"passwordExpired,omitempty"`
	ActionRequired  bool             `json:"actionRequired,omitempty"`
	Down            string           `json:"down,omitempty"`
	DelayMS         int64            `json:"delayMs,omitempty"`
	Mutations       int              `json:"mutations,omitempty"` // further pages before which an entry slips in
	MutatedOn       map[string]int   `json:"mutatedOn,omitempty"` // account to the day the built-in mutation ran
	Posted          []posted         `json:"posted,omitempty"`
	EarlyDays       map[int]bool     `json:"earlyDays,omitempty"` // days whose pending entries were booked the same day
	Shifts          map[string]int64 `json:"shifts,omitempty"`    // account to minor units added to its balances
	Added           []addedAccount   `json:"added,omitempty"`
	Closed          map[string]bool  `json:"closed,omitempty"`
	Fetches         int64            `json:"fetches,omitempty"` // listings answered to the user whose ids change
}

// posted is a transaction that an event made.
type posted struct {
	Seq     int64  `json:"seq"`
	Account string `json:"account"`
	Day     int    `json:"day"`    // it was made
	Booked  int    `json:"booked"` // day it is booked; notBooked while pending
	Minor   int64  `json:"minor"`
	Name    string `json:"name"`
	Purpose string `json:"purpose"`
}

const notBooked = 1 << 40

type addedAccount struct {
	Name     string `json:"name"`
	Currency string `json:"currency"`
	Day      int    `json:"day"`
}

func newState(seed int64) *state {
	return &state{
		Version: stateVersion, Seed: seed,
		Consents:       map[string]*consent{},
		Authorisations: map[string]*authorisation{},
		Users:          map[string]*userState{},
	}
}

func loadState(path string, seed int64) (*state, error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return newState(seed), nil
	}
	if err != nil {
		return nil, err
	}
	st := newState(seed)
	if err := json.Unmarshal(data, st); err != nil {
		return nil, fmt.Errorf("sandbox: %s is not a bank's state: %w", path, err)
	}
	if st.Version != stateVersion {
		return nil, fmt.Errorf("sandbox: %s has version %d, this program reads %d", path, st.Version, stateVersion)
	}
	if st.Seed != seed {
		return nil, fmt.Errorf("sandbox: %s belongs to seed %d, not %d", path, st.Seed, seed)
	}
	return st, nil
}

// user returns what events have done to login, ready to be changed. The caller holds mu.
func (b *Bank) user(login string) *userState {
	us := b.state.Users[login]
	if us == nil {
		us = &userState{}
		b.state.Users[login] = us
	}
	return us
}

// changed notes a change that must be on disk before it is answered for; the
// caller holds mu and calls flushUrgent after releasing it.
func (b *Bank) changed() {
	b.version++
	b.urgent = b.version
}

// counted notes a change whose loss within lazyWrite does no harm. The caller holds mu.
func (b *Bank) counted() {
	b.version++
	if b.path == "" || b.timer != nil || b.closed {
		return
	}
	b.timer = time.AfterFunc(lazyWrite, func() {
		b.mu.Lock()
		b.timer = nil
		b.mu.Unlock()
		if err := b.flush(); err != nil && !errors.Is(err, errClosed) {
			b.log.Error("sandbox: state not written", "err", err)
		}
	})
}

// flush returns once everything that happened before the call is on disk.
func (b *Bank) flush() error {
	b.mu.Lock()
	want := b.version
	b.mu.Unlock()
	return b.flushTo(want)
}

// flushUrgent is flush for changes only; counters are left to their timer.
func (b *Bank) flushUrgent() error {
	b.mu.Lock()
	want := b.urgent
	b.mu.Unlock()
	return b.flushTo(want)
}

// flushTo writes the state unless version want is on disk already: callers
// that wait for each other share one write.
func (b *Bank) flushTo(want uint64) error {
	if b.path == "" {
		return nil
	}
	b.writing.Lock()
	defer b.writing.Unlock()
	if b.written >= want {
		return nil
	}
	b.mu.Lock()
	if b.closed {
		b.mu.Unlock()
		return errClosed
	}
	version := b.version
	data, err := json.Marshal(b.state)
	b.mu.Unlock()
	if err != nil {
		return err
	}
	if err := writeFile(b.path, data); err != nil {
		return err
	}
	b.written = version
	return nil
}

// writeFile replaces path as a whole: after a crash the file is the old or the new one.
func writeFile(path string, data []byte) (err error) {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, stateFile+".*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = f.Close()
			_ = os.Remove(f.Name())
		}
	}()
	if _, err = f.Write(data); err != nil {
		return err
	}
	if err = f.Sync(); err != nil {
		return err
	}
	if err = f.Close(); err != nil {
		return err
	}
	if err = os.Rename(f.Name(), path); err != nil {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer func() { _ = d.Close() }()
	return d.Sync()
}

// prune forgets the oldest ended consents once there are too many. The caller holds mu.
func (b *Bank) prune() {
	if len(b.state.Consents) <= keepConsents {
		return
	}
	var ended []*consent
	for _, c := range b.state.Consents {
		abandoned := c.Status == statusReceived && b.now().Sub(c.Created) > 24*time.Hour
		if abandoned || (c.Status != statusReceived && c.Status != statusValid) {
			ended = append(ended, c)
		}
	}
	sort.Slice(ended, func(i, j int) bool { return ended[i].LastAction.Before(ended[j].LastAction) })
	for _, c := range ended[:len(ended)/2] {
		delete(b.state.Consents, c.ID)
		for _, id := range c.Authorisations {
			delete(b.state.Authorisations, id)
		}
	}
}
