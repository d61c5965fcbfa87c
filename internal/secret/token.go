package secret

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
)

// NewToken returns prefix and 32 random bytes in base64url: an opaque token or
// a client secret. The prefix says to people and secret scanners what it is.
func NewToken(prefix string) string {
	b := make([]byte, 32)
	rand.Read(b)
	return prefix + base64.RawURLEncoding.EncodeToString(b)
}

// HashToken is what is stored of a token: its SHA-256. A slow hash would add
// nothing, since there is no guessing 256 random bits. Never for passwords.
func HashToken(token string) []byte {
	h := sha256.Sum256([]byte(token))
	return h[:]
}
