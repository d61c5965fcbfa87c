package secret

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/core/cryptofmt"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/tink"
)

// KeyStore holds the keyset, encrypted, as one value.
//
// It belongs beside the user keys, not into the data: a restored backup of the
// data must not bring back a keyset that lacks the keys added since.
type KeyStore interface {
	// LoadKeyset returns what is stored, or nil if nothing is yet.
	LoadKeyset(ctx context.Context) ([]byte, error)
	// SaveKeyset replaces old by new in one step. old is nil for the first one.
	// If the stored value is not old it stores nothing and returns ErrChanged.
	SaveKeyset(ctx context.Context, old, new []byte) error
}

// Keyring is the hub's own keys: one primary, which seals, and those before it,
// which still open. Safe for concurrent use, and by several nodes on one store.
//
// A sealed value is tink's: 1 | key id (4, big-endian) | nonce (12) |
// ciphertext | tag (16).
type Keyring struct {
	master *Master
	store  KeyStore
	mu     sync.Mutex // one load or change at a time
	ring   atomic.Pointer[ring]
}

// ring is one state of the keyset. It never changes.
type ring struct {
	stored  []byte
	master  *masterKey // the one that opened it
	handle  *keyset.Handle
	aead    tink.AEAD
	ids     map[uint32]bool
	primary uint32
}

var keysetAAD = AAD("keyset")

// OpenKeyring opens the stored keyset under the master key, and makes the first
// one if none is stored. It returns ErrUnknownKey when the master key is not
// the one in use, ErrOpen when the stored keyset is damaged.
func OpenKeyring(ctx context.Context, master *Master, store KeyStore) (*Keyring, error) {
	k := &Keyring{master: master, store: store}
	err := k.change(ctx, func(r *ring) (*keyset.Handle, error) {
		if r != nil {
			return nil, nil
		}
		return keyset.NewHandle(aead.AES256GCMKeyTemplate())
	})
	if err != nil {
		return nil, err
	}
	return k, nil
}

// Seal encrypts plain under the primary key, for the place that aad names.
func (k *Keyring) Seal(plain, aad []byte) ([]byte, error) {
	sealed, err := k.ring.Load().aead.Encrypt(plain, aad)
	if err != nil {
		return nil, fmt.Errorf("secret: seal: %w", err)
	}
	return sealed, nil
}

// Open decrypts what Seal returned for the same aad. A key that another node
// added meanwhile is read from the store; that is the only use of ctx.
func (k *Keyring) Open(ctx context.Context, sealed, aad []byte) ([]byte, error) {
	id, ok := KeyID(sealed)
	if !ok {
		return nil, ErrOpen
	}
	r := k.ring.Load()
	if !r.ids[id] {
		if err := k.Reload(ctx); err != nil {
			return nil, err
		}
		if r = k.ring.Load(); !r.ids[id] {
			return nil, fmt.Errorf("%w: key %08x", ErrUnknownKey, id)
		}
	}
	plain, err := r.aead.Decrypt(sealed, aad)
	if err != nil {
		return nil, ErrOpen
	}
	return plain, nil
}

// Reseal brings a sealed value under the primary key. It returns sealed itself
// if that is where it is already.
func (k *Keyring) Reseal(ctx context.Context, sealed, aad []byte) ([]byte, error) {
	if id, ok := KeyID(sealed); ok && id == k.PrimaryID() {
		return sealed, nil
	}
	plain, err := k.Open(ctx, sealed, aad)
	if err != nil {
		return nil, err
	}
	defer clear(plain)
	return k.Seal(plain, aad)
}

// KeyID tells which key of a keyring sealed a value.
func KeyID(sealed []byte) (id uint32, ok bool) {
	if len(sealed) < cryptofmt.TinkPrefixSize || sealed[0] != cryptofmt.TinkStartByte {
		return 0, false
	}
	return binary.BigEndian.Uint32(sealed[1:]), true
}

// PrimaryID is the key that seals now.
func (k *Keyring) PrimaryID() uint32 { return k.ring.Load().primary }

// IDs lists all keys, oldest first.
func (k *Keyring) IDs() []uint32 {
	info := k.ring.Load().handle.KeysetInfo().GetKeyInfo()
	ids := make([]uint32, len(info))
	for i, key := range info {
		ids[i] = key.GetKeyId()
	}
	return ids
}

// Rotate adds a key and makes it the primary one. The others keep opening what
// they sealed, also in old backups, so none is ever taken away. Other nodes
// learn of the new key from Reload, or as soon as they meet a value sealed
// under it.
func (k *Keyring) Rotate(ctx context.Context) (primary uint32, err error) {
	err = k.change(ctx, func(r *ring) (*keyset.Handle, error) {
		if r == nil {
			return nil, errNoKeyset
		}
		m := keyset.NewManagerFromHandle(r.handle)
		if primary, err = m.Add(aead.AES256GCMKeyTemplate()); err != nil {
			return nil, err
		}
		if err := m.SetPrimary(primary); err != nil {
			return nil, err
		}
		return m.Handle()
	})
	return primary, err
}

// NeedsRewrap reports whether the stored keyset is still under the previous
// master key, which must then stay configured.
func (k *Keyring) NeedsRewrap() bool { return k.ring.Load().master != k.master.current }

// Rewrap encrypts the keyset under the current master key. Once every node has
// that key, it makes the previous one superfluous.
func (k *Keyring) Rewrap(ctx context.Context) error {
	return k.change(ctx, func(r *ring) (*keyset.Handle, error) {
		if r == nil {
			return nil, errNoKeyset
		}
		if r.master == k.master.current {
			return nil, nil
		}
		return r.handle, nil
	})
}

// Reload reads the keyset again, to learn what another node changed.
func (k *Keyring) Reload(ctx context.Context) error {
	return k.change(ctx, func(r *ring) (*keyset.Handle, error) {
		if r == nil {
			return nil, errNoKeyset
		}
		return nil, nil
	})
}

// errNoKeyset: a second keyset would hide that everything sealed is lost.
var errNoKeyset = errors.New("secret: the stored keyset is gone")

// change loads the keyset and stores what decide makes of it, again from the
// start if another node was faster. decide gets nil when nothing is stored, and
// returns nil to leave the keyset as it is.
func (k *Keyring) change(ctx context.Context, decide func(*ring) (*keyset.Handle, error)) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	for {
		r, err := k.load(ctx)
		if err != nil {
			return err
		}
		handle, err := decide(r)
		if err != nil {
			return err
		}
		if handle == nil {
			k.ring.Store(r)
			return nil
		}
		var old []byte
		if r != nil {
			old = r.stored
		}
		var buf bytes.Buffer
		err = handle.WriteWithAssociatedData(keyset.NewBinaryWriter(&buf), &wrapping{Master: k.master}, keysetAAD)
		if err != nil {
			return fmt.Errorf("secret: write keyset: %w", err)
		}
		err = k.store.SaveKeyset(ctx, old, buf.Bytes())
		if errors.Is(err, ErrChanged) && ctx.Err() == nil {
			continue
		}
		if err != nil {
			return fmt.Errorf("secret: save keyset: %w", err)
		}
		if r, err = k.parse(buf.Bytes()); err != nil {
			return err
		}
		k.ring.Store(r)
		return nil
	}
}

func (k *Keyring) load(ctx context.Context) (*ring, error) {
	stored, err := k.store.LoadKeyset(ctx)
	if err != nil {
		return nil, fmt.Errorf("secret: load keyset: %w", err)
	}
	if stored == nil {
		return nil, nil
	}
	if r := k.ring.Load(); r != nil && bytes.Equal(r.stored, stored) {
		return r, nil
	}
	return k.parse(stored)
}

func (k *Keyring) parse(stored []byte) (*ring, error) {
	w := &wrapping{Master: k.master}
	handle, err := keyset.ReadWithAssociatedData(keyset.NewBinaryReader(bytes.NewReader(stored)), w, keysetAAD)
	if w.err != nil {
		return nil, fmt.Errorf("keyset: %w", w.err)
	}
	if err != nil {
		return nil, fmt.Errorf("keyset: %w", ErrOpen)
	}
	primitive, err := aead.New(handle)
	if err != nil {
		return nil, fmt.Errorf("secret: keyset: %w", err)
	}
	info := handle.KeysetInfo()
	r := &ring{stored: bytes.Clone(stored), master: w.openedBy, handle: handle, aead: primitive,
		ids: make(map[uint32]bool), primary: info.GetPrimaryKeyId()}
	for _, key := range info.GetKeyInfo() {
		r.ids[key.GetKeyId()] = true
	}
	return r, nil
}
