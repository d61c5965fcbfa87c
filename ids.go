package bankfeed

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"strconv"
	"time"
)

// Numbers of things. Each is counted per tenant and kind from 1 upwards; gaps
// are normal, reuse is not. Account numbers stay below 2^31 because .NET
// consumers of the stream read them as int.
type (
	TenantID      int64
	UserID        int64
	ConnectionID  int64
	AccountID     int64
	TransactionID int64
	ConsentID     int64
	SessionID     int64
	RequestID     int64
)

// MaxAccountID is the largest account number that is ever given out.
const MaxAccountID AccountID = 1<<31 - 1

// Kind says what a number counts.
type Kind uint16

// Kinds with numbers of their own. The values are part of every UUID that was
// given out: never renumber.
const (
	KindTenant      Kind = 1
	KindUser        Kind = 2
	KindConnection  Kind = 3
	KindAccount     Kind = 4
	KindTransaction Kind = 5
	KindConsent     Kind = 6
	KindSession     Kind = 7
	KindRequest     Kind = 8  // web forms, tasks and imports too
	KindDelivery    Kind = 9  // an open or finished delivery of a callback
	KindTarget      Kind = 10 // a receiver of callbacks
	KindCase        Kind = 11
	KindReport      Kind = 12
	KindDeletion    Kind = 13
	kindMax              = 1<<12 - 1
)

// UUID is a universally unique identifier (RFC 9562).
type UUID [16]byte

var errUUID = errors.New("not a UUID")

// String writes the canonical lower-case form.
func (u UUID) String() string {
	var b [36]byte
	hex.Encode(b[0:8], u[0:4])
	b[8] = '-'
	hex.Encode(b[9:13], u[4:6])
	b[13] = '-'
	hex.Encode(b[14:18], u[6:8])
	b[18] = '-'
	hex.Encode(b[19:23], u[8:10])
	b[23] = '-'
	hex.Encode(b[24:36], u[10:16])
	return string(b[:])
}

// MarshalText implements encoding.TextMarshaler.
func (u UUID) MarshalText() ([]byte, error) { return []byte(u.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (u *UUID) UnmarshalText(b []byte) (err error) {
	*u, err = ParseUUID(string(b))
	return err
}

// ParseUUID reads the canonical form in either case.
func ParseUUID(s string) (UUID, error) {
	var u UUID
	if len(s) != 36 || s[8] != '-' || s[13] != '-' || s[18] != '-' || s[23] != '-' {
		return u, errUUID
	}
	src := []byte(s[0:8] + s[9:13] + s[14:18] + s[19:23] + s[24:36])
	if _, err := hex.Decode(u[:], src); err != nil {
		return UUID{}, errUUID
	}
	return u, nil
}

// Installation is one hub with its data. Every UUID that the hub gives out is
// computed from it and from numbers that are stored anyway, so UUIDs need
// neither a column nor an index (version 8 of RFC 9562: the layout is ours).
type Installation struct {
	// Born is when the data was first created. It never changes, not even by a
	// restore, so the UUID of an entity is stable.
	Born time.Time
	// Epoch began when the log was created or last restored. A position means
	// something only together with its epoch.
	Epoch Epoch
}

// Epoch is the start of one unbroken life of the log, in milliseconds since
// 1970. A restore from a backup begins a new one, so that positions given out
// before can be told from those given out after.
type Epoch int64

const (
	maxUUIDTenant = 1<<22 - 1
	maxUUIDNumber = 1<<40 - 1
)

// layout: 48 bits when | 4 version | 12 what | 2 variant | 22 tenant | 40 number.
func packUUID(when int64, what uint16, tenant TenantID, number int64) UUID {
	var u UUID
	binary.BigEndian.PutUint64(u[0:8], uint64(when)<<16|0x8000|uint64(what))
	binary.BigEndian.PutUint64(u[8:16], 2<<62|uint64(tenant)<<40|uint64(number))
	return u
}

func (u UUID) unpack() (when int64, what uint16, tenant TenantID, number int64, ok bool) {
	hi, lo := binary.BigEndian.Uint64(u[0:8]), binary.BigEndian.Uint64(u[8:16])
	if hi>>12&0xf != 8 || lo>>62 != 2 {
		return 0, 0, 0, 0, false
	}
	return int64(hi >> 16), uint16(hi & 0xfff), TenantID(lo >> 40 & maxUUIDTenant), int64(lo & maxUUIDNumber), true
}

// UUID names an entity to the outside. The zero number gives the zero UUID,
// which is what the stream sends outside a session.
func (in Installation) UUID(kind Kind, tenant TenantID, number int64) UUID {
	if number <= 0 {
		return UUID{}
	}
	return packUUID(in.Born.UnixMilli(), uint16(kind), tenant, number)
}

// Number reverses UUID. ok is false for anything that this installation did
// not give out to that tenant for that kind; callers answer as for an unknown
// id.
func (in Installation) Number(u UUID, kind Kind, tenant TenantID) (number int64, ok bool) {
	when, what, t, n, ok := u.unpack()
	if !ok || when != in.Born.UnixMilli() || Kind(what) != kind || t != tenant || n == 0 {
		return 0, false
	}
	return n, true
}

// Sibling names another entity of the installation and tenant that gave u out,
// which is how a snapshot names what it holds by number only. The zero number,
// and a UUID that is not ours, give the zero UUID.
func (u UUID) Sibling(kind Kind, number int64) UUID {
	when, _, tenant, _, ok := u.unpack()
	if !ok || number <= 0 {
		return UUID{}
	}
	return packUUID(when, uint16(kind), tenant, number)
}

// ParseID accepts both faces of an id, the number and the UUID.
func (in Installation) ParseID(s string, kind Kind, tenant TenantID) (number int64, ok bool) {
	if len(s) == 36 {
		u, err := ParseUUID(s)
		if err != nil {
			return 0, false
		}
		return in.Number(u, kind, tenant)
	}
	return ParseNumber(s)
}

// ParseNumber reads a number as the hub prints it: decimal digits without sign
// or leading zero.
func ParseNumber(s string) (int64, bool) {
	if s == "" || len(s) > 18 || s[0] < '1' || s[0] > '9' {
		return 0, false
	}
	n, err := strconv.ParseInt(s, 10, 64)
	return n, err == nil
}

// Position is where an event stands in its lane: 1, 2, 3 … in commit order.
type Position int64

// EventID encodes where an event stands, which is all it takes to find it.
func EventID(epoch Epoch, tenant TenantID, lane int, p Position) UUID {
	return packUUID(int64(epoch), uint16(lane)&kindMax, tenant, int64(p))
}

// ParseEventID reverses EventID.
func ParseEventID(u UUID) (epoch Epoch, tenant TenantID, lane int, p Position, ok bool) {
	when, what, t, n, ok := u.unpack()
	return Epoch(when), t, int(what), Position(n), ok
}
