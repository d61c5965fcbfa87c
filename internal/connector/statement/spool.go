package statement

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"errors"
	"io"
	"os"
)

// inMemory is the size up to which a document needs no file.
const inMemory = 1 << 20

// spool keeps a document between its two readings: in memory while it is small,
// then in a file that has no name any more and is encrypted with a key that is
// nowhere but in this process. A process that dies leaves nothing that anybody
// could read.
type spool struct {
	dir   string
	small bytes.Buffer
	file  *os.File
	named bool // the file still has a name
	key   [32]byte
	out   *batch
}

func newSpool(dir string) *spool { return &spool{dir: dir} }

// batch saves system calls: a decoder reads in small pieces.
type batch struct {
	w   io.Writer
	buf []byte
}

const batchSize = 64 << 10

func (b *batch) Write(p []byte) (int, error) {
	b.buf = append(b.buf, p...)
	if len(b.buf) < batchSize {
		return len(p), nil
	}
	return len(p), b.flush()
}

func (b *batch) flush() error {
	_, err := b.w.Write(b.buf)
	b.buf = b.buf[:0]
	return err
}

func (s *spool) Write(p []byte) (int, error) {
	if s.file == nil {
		if s.small.Len()+len(p) <= inMemory {
			return s.small.Write(p)
		}
		if err := s.open(); err != nil {
			return 0, err
		}
	}
	return s.out.Write(p)
}

// open moves to a file what was kept in memory.
func (s *spool) open() (err error) {
	if s.file, err = os.CreateTemp(s.dir, "bankfeed-import-*"); err != nil {
		return err
	}
	s.named = os.Remove(s.file.Name()) != nil // Windows keeps the name of an open file
	if _, err := rand.Read(s.key[:]); err != nil {
		return err
	}
	stream, err := s.stream()
	if err != nil {
		return err
	}
	s.out = &batch{w: &cipher.StreamWriter{S: stream, W: s.file}}
	_, err = s.out.Write(s.small.Bytes())
	s.small = bytes.Buffer{}
	return err
}

// stream is AES-256 in counter mode from the start of the file: the key serves
// one file once.
func (s *spool) stream() (cipher.Stream, error) {
	block, err := aes.NewCipher(s.key[:])
	if err != nil {
		return nil, err
	}
	return cipher.NewCTR(block, make([]byte, aes.BlockSize)), nil
}

// seal ends the writing.
func (s *spool) seal() error {
	if s.file == nil {
		return nil
	}
	return s.out.flush()
}

// reader reads everything from the start.
func (s *spool) reader() (io.Reader, error) {
	if s.file == nil {
		return bytes.NewReader(s.small.Bytes()), nil
	}
	if _, err := s.file.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	stream, err := s.stream()
	if err != nil {
		return nil, err
	}
	return &cipher.StreamReader{S: stream, R: s.file}, nil
}

// Close removes the document and its key.
func (s *spool) Close() error {
	clear(s.key[:])
	s.small = bytes.Buffer{}
	if s.file == nil {
		return nil
	}
	f := s.file
	s.file = nil
	err := f.Close()
	if s.named {
		err = errors.Join(err, os.Remove(f.Name()))
	}
	return err
}
