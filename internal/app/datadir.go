package app

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

const lockFile = "lock"

// ErrLocked: another process works in the data directory.
var ErrLocked = errors.New("another bankfeed works in this data directory: stop it, or choose another with --data-dir")

// makeDataDir makes the directory for its owner alone. One that exists keeps
// its mode; doctor warns of a wider one.
func makeDataDir(path string) error {
	if err := os.MkdirAll(path, 0o700); err != nil {
		var pe *fs.PathError
		if errors.As(err, &pe) {
			err = pe.Err
		}
		return fmt.Errorf("making the data directory %s: %w", path, err)
	}
	return nil
}

// lockDataDir keeps other processes out of a data directory until unlock is
// called or the process ends, however it ends.
func lockDataDir(dir string) (unlock func() error, err error) {
	f, err := os.OpenFile(filepath.Join(dir, lockFile), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("locking the data directory: %w", err)
	}
	if err := lock(f); err != nil {
		defer f.Close()
		if !errors.Is(err, errHeld) {
			return nil, fmt.Errorf("locking the data directory: %w", err)
		}
		holder := make([]byte, 64)
		n, _ := f.ReadAt(holder, 0)
		if pid := strings.TrimSpace(string(holder[:n])); pid != "" {
			return nil, fmt.Errorf("%w (process %s)", ErrLocked, pid)
		}
		return nil, ErrLocked
	}
	// For the message only; what counts is the lock.
	if err := errors.Join(f.Truncate(0), writeAt(f, fmt.Sprintln(os.Getpid()))); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f.Close, nil
}

func writeAt(f *os.File, text string) error {
	_, err := f.WriteAt([]byte(text), 0)
	return err
}

// errHeld: somebody else has the lock.
var errHeld = errors.New("held")
