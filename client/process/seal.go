package process

import (
	"crypto/aes"
	"crypto/cipher"
	"errors"

	"github.com/bankfeed/bankfeed"
)

// Sealer encrypts access tokens at rest. Every AEAD of Tink is one, those that
// keep their key in a key management service included. The associated data is
// the id of the process, so a sealed token is of no use in another row.
//
// An error of Decrypt may pass, as that of a key management service that does not
// answer: the process waits. ErrNoKey ends it at once.
type Sealer interface {
	Encrypt(plaintext, associatedData []byte) ([]byte, error)
	Decrypt(ciphertext, associatedData []byte) ([]byte, error)
}

// ErrNoKey says that trying again does not help: what was sealed is lost.
var ErrNoKey = errors.New("process: no key opens the sealed token")

// NewSealer seals with AES-256-GCM under a key of 32 bytes. older are keys that
// were used before: what they sealed can still be opened.
func NewSealer(key []byte, older ...[]byte) (Sealer, error) {
	var s keys
	for _, k := range append([][]byte{key}, older...) {
		if len(k) != 32 {
			return nil, bankfeed.InvalidField("key", "must have 32 bytes")
		}
		block, err := aes.NewCipher(k)
		if err != nil {
			return nil, err
		}
		aead, err := cipher.NewGCMWithRandomNonce(block)
		if err != nil {
			return nil, err
		}
		s = append(s, aead)
	}
	return s, nil
}

// keys opens with any of them and seals with the first.
type keys []cipher.AEAD

func (s keys) Encrypt(plaintext, associatedData []byte) ([]byte, error) {
	return s[0].Seal(nil, nil, plaintext, associatedData), nil
}

func (s keys) Decrypt(ciphertext, associatedData []byte) ([]byte, error) {
	for _, aead := range s {
		if plain, err := aead.Open(nil, nil, ciphertext, associatedData); err == nil {
			return plain, nil
		}
	}
	return nil, ErrNoKey
}
