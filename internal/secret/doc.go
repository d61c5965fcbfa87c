// Package secret seals what must not be readable at rest, and keeps the keys.
//
//	master key      the operator's: BANKFEED_MASTER_KEY or a file; never in a database
//	└─ keyset       Keyring: a tink keyset, stored encrypted under the master key;
//	   │            seals secrets of tenants (of callbacks: what signs them, URLs, headers)
//	   └─ user key  UserKeys: 32 bytes per user, stored wrapped by the keyset apart
//	                from the data; seals that user's payloads
//
// Every layer can be rotated without touching the one below it at the same
// time: a new master key only re-encrypts the keyset (Keyring.Rewrap), a new
// primary key of the keyset only re-wraps the user keys (UserKeys.Rewrap).
// Tenants' secrets stay under the key that sealed them until they are written
// anew, and payloads are never rewritten: no key ever leaves the keyset.
// Destroying a user key makes all payloads of that user unreadable
// in every copy of the data, backups included.
//
// All sealing is AES-256-GCM. Associated data (see AAD) ties a sealed value to
// its place, so that a value moved to another row does not open.
//
// Tokens and the secrets of machine clients are random and only ever compared:
// they are hashed (HashToken), not sealed. The package stores nothing itself:
// KeyStore and UserKeyStore are the store's to fulfil.
package secret

import (
	"encoding/binary"
	"errors"
)

var (
	// ErrOpen means that a sealed value is damaged, or was sealed for another
	// place, user or hub. Which of these it is cannot be known.
	ErrOpen = errors.New("secret: sealed value does not open")
	// ErrUnknownKey means that a value was sealed under a key that is not there.
	ErrUnknownKey = errors.New("secret: sealed under an unknown key")
	// ErrErased means that the user's key was destroyed: what it sealed is gone.
	ErrErased = errors.New("secret: the user's key was destroyed")
	// ErrChanged is a store's answer when the value to be replaced is no longer
	// the one that the caller read.
	ErrChanged = errors.New("secret: stored key changed meanwhile")
)

// AAD builds associated data that names a place: what kind of value, and the
// numbers of the row that it belongs to. kind holds no NUL byte.
func AAD(kind string, ids ...int64) []byte {
	b := make([]byte, 0, len(kind)+1+8*len(ids))
	b = append(b, kind...)
	b = append(b, 0)
	for _, id := range ids {
		b = binary.BigEndian.AppendUint64(b, uint64(id))
	}
	return b
}
