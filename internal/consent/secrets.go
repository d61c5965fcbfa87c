package consent

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
)

// secretLen is the length of what newSecret returns.
const secretLen = 43

// newSecret is 32 random bytes in base64url: the token of a start page, or a
// state parameter.
func newSecret() string {
	b := make([]byte, 32)
	rand.Read(b)
	return base64.RawURLEncoding.EncodeToString(b)
}

// hashOf is what is stored of a secret. There is no guessing 256 random bits,
// so a slow hash would add nothing.
func hashOf(secret string) []byte {
	h := sha256.Sum256([]byte(secret))
	return h[:]
}
