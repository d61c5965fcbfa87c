package secret

import (
	"crypto/cipher"
	"slices"
)

// sealerVersion begins what a Sealer sealed:
// version (1) | nonce (12) | ciphertext | tag (16).
// Another recipe gets another number.
const sealerVersion = 1

// Overhead is by how many bytes a sealed payload is longer than the plain one.
const Overhead = 1 + 12 + 16

// Sealer seals the payloads of one user. Safe for concurrent use.
//
// It holds the user's key, so it does not notice an erasure: take one from
// UserKeys for each page or delivery rather than keeping it.
//
// Nonces are random, which bounds a key to 2^32 seals (NIST SP 800-38D, 8.3:
// then two nonces are equal with a chance of 2^-33). That is one seal a second
// for 136 years, or a million a day for 11 years, and the bound is per user, so
// neither counting nor a key per blob would buy anything. A user for whom this
// is too little needs a new version byte with a longer nonce (XAES-256-GCM).
type Sealer struct{ aead cipher.AEAD }

func newSealer(key []byte) (*Sealer, error) {
	aead, err := newGCM(key)
	if err != nil {
		return nil, err
	}
	return &Sealer{aead}, nil
}

// Seal appends the sealed form of plain to dst. plain and aad must not overlap
// the spare capacity of dst.
func (s *Sealer) Seal(dst, plain, aad []byte) []byte {
	dst = slices.Grow(dst, Overhead+len(plain))
	return s.aead.Seal(append(dst, sealerVersion), nil, plain, aad)
}

// Open appends to dst what was sealed for the same user with the same aad. The
// error is always ErrOpen.
func (s *Sealer) Open(dst, sealed, aad []byte) ([]byte, error) {
	if len(sealed) < Overhead || sealed[0] != sealerVersion {
		return nil, ErrOpen
	}
	plain, err := s.aead.Open(dst, nil, sealed[1:], aad)
	if err != nil {
		return nil, ErrOpen
	}
	return plain, nil
}
