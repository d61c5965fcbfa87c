package secret

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/bankfeed/bankfeed"
)

const (
	keySize = 32 // AES-256
	// masterFile is the name that a generated key gets in the data directory.
	masterFile = "master.key"

	settingKey          = "BANKFEED_MASTER_KEY"
	settingFile         = "BANKFEED_MASTER_KEY_FILE"
	settingPrevious     = "BANKFEED_MASTER_KEY_PREVIOUS"
	settingPreviousFile = "BANKFEED_MASTER_KEY_PREVIOUS_FILE"
)

// MasterOptions says where the master key comes from. A key is the base64 of
// 32 random bytes; a key file holds the same and is readable by its owner only.
type MasterOptions struct {
	Key     bankfeed.Secret // BANKFEED_MASTER_KEY; or
	KeyFile string          // BANKFEED_MASTER_KEY_FILE

	// The key that was in use before, until Keyring.Rewrap has run.
	PreviousKey     bankfeed.Secret // BANKFEED_MASTER_KEY_PREVIOUS; or
	PreviousKeyFile string          // BANKFEED_MASTER_KEY_PREVIOUS_FILE

	// Generate allows a missing key to be made in DataDir. Only for SQLite: the
	// nodes that share a PostgreSQL would each make their own.
	Generate bool
	DataDir  string
}

// Master is the operator's key, and the one before it if rotation is under way.
type Master struct {
	current  *masterKey
	previous *masterKey // may be nil
}

// LoadMaster reads the master key, or makes it where that is allowed. The error
// reports all faults at once; it names settings, never what they hold.
func LoadMaster(o MasterOptions) (*Master, error) {
	current, err := o.current()
	previous, prevErr := o.previous()
	if err := errors.Join(err, prevErr); err != nil {
		return nil, err
	}
	return &Master{current: current, previous: previous}, nil
}

// ID is a short name of the key now in use. It tells keys apart and reveals
// nothing of them.
func (m *Master) ID() string { return m.current.name() }

// String keeps key material out of logs and error texts.
func (m *Master) String() string { return "master key " + m.ID() }

func (o MasterOptions) current() (*masterKey, error) {
	switch {
	case o.Key != "" && o.KeyFile != "":
		return nil, fmt.Errorf("set %s or %s, not both", settingKey, settingFile)
	case o.Key != "":
		return parseMasterKey(settingKey, string(o.Key))
	case o.KeyFile != "":
		// Outside the data directory a missing file is a secret that was not
		// mounted or a mistyped path: a fresh key there would open nothing.
		if o.Generate && within(o.DataDir, o.KeyFile) {
			if err := ensureKeyFile(o.KeyFile); err != nil {
				return nil, fmt.Errorf("%s: %w", settingFile, withoutPath(err))
			}
		}
		return readKeyFile(settingFile, o.KeyFile)
	case !o.Generate:
		return nil, fmt.Errorf("%s or %s is required: base64 of 32 random bytes (openssl rand -base64 32)",
			settingKey, settingFile)
	}
	path := filepath.Join(o.DataDir, masterFile)
	if err := ensureKeyFile(path); err != nil {
		return nil, fmt.Errorf("cannot make the master key in the data directory, and neither %s nor %s is set: %w",
			settingKey, settingFile, err)
	}
	return readKeyFile(masterFile+" in the data directory", path)
}

func (o MasterOptions) previous() (*masterKey, error) {
	switch {
	case o.PreviousKey != "" && o.PreviousKeyFile != "":
		return nil, fmt.Errorf("set %s or %s, not both", settingPrevious, settingPreviousFile)
	case o.PreviousKey != "":
		return parseMasterKey(settingPrevious, string(o.PreviousKey))
	case o.PreviousKeyFile != "":
		return readKeyFile(settingPreviousFile, o.PreviousKeyFile)
	}
	return nil, nil
}

// within reports whether path lies directly in dir.
func within(dir, path string) bool {
	d, err1 := filepath.Abs(dir)
	p, err2 := filepath.Abs(path)
	return err1 == nil && err2 == nil && filepath.Dir(p) == d
}

// withoutPath drops the path from a file error. Someone who puts the key itself
// where its path belongs would otherwise find it in the log.
func withoutPath(err error) error {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return pe.Err
	}
	var le *os.LinkError
	if errors.As(err, &le) {
		return le.Err
	}
	return err
}

func readKeyFile(setting, path string) (*masterKey, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", setting, withoutPath(err))
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", setting, withoutPath(err))
	}
	// Windows has no such bits; Go reports 0666 for every writable file there.
	if info.Mode().Perm()&0o077 != 0 && runtime.GOOS != "windows" {
		return nil, fmt.Errorf("%s: the file has mode %04o: only its owner may read it (chmod 600)",
			setting, info.Mode().Perm())
	}
	text, err := io.ReadAll(io.LimitReader(f, 1024))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", setting, withoutPath(err))
	}
	return parseMasterKey(setting, string(text))
}

// ensureKeyFile makes a key file unless there is one. Several processes may do
// so at once: the first one's key counts, and no reader ever sees half of it.
func ensureKeyFile(path string) error {
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, ".master-key-*") // mode 0600
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(f.Name()) }() // it has its final name by then, or is of no use
	key := make([]byte, keySize)
	rand.Read(key)
	_, err = f.WriteString(base64.StdEncoding.EncodeToString(key) + "\n")
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	// Unlike a rename, a link never replaces a key that is already in use.
	if err := os.Link(f.Name(), path); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return syncDir(dir)
}

// syncDir makes a new name in dir survive a power cut: data sealed under a key
// that then vanishes would be lost.
func syncDir(dir string) error {
	if runtime.GOOS == "windows" { // directories cannot be synced there
		return nil
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

type masterKey struct {
	id   [4]byte
	aead cipher.AEAD
}

func parseMasterKey(setting, text string) (*masterKey, error) {
	// Standard and URL alphabet, padded or not: all of them are unambiguous.
	text = strings.NewReplacer("-", "+", "_", "/").Replace(strings.TrimRight(strings.TrimSpace(text), "="))
	raw, err := base64.RawStdEncoding.DecodeString(text)
	if err != nil {
		return nil, fmt.Errorf("%s: not base64", setting)
	}
	if len(raw) != keySize {
		return nil, fmt.Errorf("%s: holds %d bytes, want the base64 of %d", setting, len(raw), keySize)
	}
	defer clear(raw)
	return newMasterKey(raw)
}

// newMasterKey derives both the sealing key and the id, so that the id, which
// is stored in clear, is no function of the key that seals.
func newMasterKey(raw []byte) (*masterKey, error) {
	key, err := hkdf.Key(sha256.New, raw, nil, "bankfeed master key: seal", keySize)
	if err != nil {
		return nil, err
	}
	defer clear(key)
	id, err := hkdf.Key(sha256.New, raw, nil, "bankfeed master key: id", 4)
	if err != nil {
		return nil, err
	}
	aead, err := newGCM(key)
	if err != nil {
		return nil, err
	}
	return &masterKey{id: [4]byte(id), aead: aead}, nil
}

func newGCM(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCMWithRandomNonce(block)
}

func (k *masterKey) name() string { return hex.EncodeToString(k.id[:]) }

// masterVersion begins what a master key sealed:
// version (1) | key id (4) | nonce (12) | ciphertext | tag (16).
const masterVersion = 1

const masterHeader = 1 + 4

// wrapping lends the master key to tink for one reading or writing of a keyset.
// It notes which key opened, and why none did: tink turns errors into text.
type wrapping struct {
	*Master
	openedBy *masterKey
	err      error
}

// Encrypt implements tink.AEAD.
func (w *wrapping) Encrypt(plain, aad []byte) ([]byte, error) {
	sealed := append([]byte{masterVersion}, w.current.id[:]...)
	return w.current.aead.Seal(sealed, nil, plain, aad), nil
}

// Decrypt implements tink.AEAD.
func (w *wrapping) Decrypt(sealed, aad []byte) ([]byte, error) {
	var plain []byte
	plain, w.openedBy, w.err = w.open(sealed, aad)
	return plain, w.err
}

func (m *Master) open(sealed, aad []byte) ([]byte, *masterKey, error) {
	if len(sealed) < masterHeader || sealed[0] != masterVersion {
		return nil, nil, ErrOpen
	}
	for _, k := range []*masterKey{m.current, m.previous} {
		if k == nil || !bytes.Equal(sealed[1:masterHeader], k.id[:]) {
			continue
		}
		plain, err := k.aead.Open(nil, nil, sealed[masterHeader:], aad)
		if err != nil {
			return nil, nil, ErrOpen
		}
		return plain, k, nil
	}
	return nil, nil, fmt.Errorf("%w: master key %x, while %s is %s; was it replaced without %s?",
		ErrUnknownKey, sealed[1:masterHeader], settingKey, m.ID(), settingPrevious)
}
