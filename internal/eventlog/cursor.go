package eventlog

import (
	"encoding/base64"
	"encoding/binary"
	"errors"
	"slices"

	"github.com/bankfeed/bankfeed"
)

// Cursor is where a reader of a tenant's events stands: after a position in
// each lane, within one epoch of the log. Its text is opaque to clients.
type Cursor struct {
	Epoch bankfeed.Epoch
	Lanes []bankfeed.Position // one for each of Lanes
}

// cursorVersion begins the encoded form:
// version | epoch | number of lanes | position of each lane; numbers as uvarint.
const cursorVersion = 1

// maxPosition is the largest position that an event id can hold.
const maxPosition = 1<<40 - 1

// String is the text that ParseCursor reads: URL-safe, and equal for equal
// cursors.
func (c Cursor) String() string {
	b := append(make([]byte, 0, 32), cursorVersion)
	b = binary.AppendUvarint(b, uint64(c.Epoch))
	b = binary.AppendUvarint(b, uint64(len(c.Lanes)))
	for _, p := range c.Lanes {
		b = binary.AppendUvarint(b, uint64(p))
	}
	return base64.RawURLEncoding.EncodeToString(b)
}

// ParseCursor reads what String wrote, and nothing else. The error is an
// Invalid one that names the parameter after.
func ParseCursor(s string) (Cursor, error) {
	c, ok := parseCursor(s)
	if !ok {
		return Cursor{}, bankfeed.InvalidField("after", "not a cursor of this log")
	}
	return c, nil
}

func parseCursor(s string) (c Cursor, ok bool) {
	if len(s) > 64+16*Lanes {
		return c, false
	}
	b, err := base64.RawURLEncoding.DecodeString(s)
	if err != nil || len(b) == 0 || b[0] != cursorVersion {
		return c, false
	}
	b = b[1:]
	next := func(most uint64) (n uint64) {
		n, size := binary.Uvarint(b)
		if size <= 0 || n > most {
			b = nil
			ok = false
			return 0
		}
		b = b[size:]
		return n
	}
	ok = true
	c.Epoch = bankfeed.Epoch(next(1<<48 - 1))
	if n := next(Lanes); !ok || n != Lanes {
		return c, false
	}
	c.Lanes = make([]bankfeed.Position, Lanes)
	for i := range c.Lanes {
		c.Lanes[i] = bankfeed.Position(next(maxPosition))
	}
	// One cursor has one text: no second form of a number, nothing behind it.
	return c, ok && c.String() == s
}

func (c Cursor) clone() Cursor {
	c.Lanes = slices.Clone(c.Lanes)
	return c
}

// OldestOf finds the cursor to start over from in a Gone or StaleEpoch error of
// Read.
func OldestOf(err error) (Cursor, bool) {
	var e *cursorError
	if errors.As(err, &e) {
		return e.oldest, true
	}
	return Cursor{}, false
}

// cursorError carries the oldest cursor inside a bankfeed.Error.
type cursorError struct{ oldest Cursor }

func (e *cursorError) Error() string { return "the oldest cursor is " + e.oldest.String() }
