// Package backingtest gives tests the real services they run on. A test whose service is missing is skipped with a text that
// begins with "NOT RUN: ", which the test runner lists at the end.
package backingtest

import (
	"context"
	"errors"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/bankfeed/bankfeed/internal/backing"
)

const (
	notRun = "NOT RUN: "
	bulk   = "BULK: runs without -race"

	specEnv = "BANKFEED_SPEC_DIR"

	// patience covers the start of a server, or the pull of an image, on a busy machine.
	patience = 5 * time.Minute
)

// The servers are looked for once per test binary. One that had to be started ends with the binary.
var (
	postgres = sync.OnceValues(func() (*backing.PostgresServer, error) {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		return backing.Postgres(ctx)
	})
	rabbitMQ = sync.OnceValues(func() (*backing.RabbitMQServer, error) {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		return backing.RabbitMQ(ctx)
	})
)

// PostgresURL makes an empty PostgreSQL database for this test and returns its URL. It is dropped when the test ends,
// whoever is still connected. Commits in it do not wait for the disk, whose loss only a private server can suffer.
func PostgresURL(t testing.TB) string {
	t.Helper()
	server, err := postgres()
	need(t, err)
	url, drop, err := server.CreateDatabase(context.Background(), "bankfeed_test")
	return relaxed(t, server, url, drop, err)
}

// PostgresCopy is PostgresURL with what fill has put into an empty database; it is asked once for each key.
func PostgresCopy(t testing.TB, key string, fill func(url string) error) string {
	t.Helper()
	server, err := postgres()
	need(t, err)
	template, err := server.Template(context.Background(), key, fill)
	if err != nil {
		t.Fatal(err)
	}
	url, drop, err := server.CopyDatabase(context.Background(), "bankfeed_test", template)
	return relaxed(t, server, url, drop, err)
}

func relaxed(t testing.TB, server *backing.PostgresServer, url string, drop func() error, err error) string {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	cleanup(t, drop)
	if err := server.Relax(context.Background(), url); err != nil {
		t.Fatal(err)
	}
	return url
}

// AMQPURL makes an empty RabbitMQ virtual host for this test and returns its URL. It is dropped when the test ends.
func AMQPURL(t testing.TB) string {
	t.Helper()
	server, err := rabbitMQ()
	need(t, err)
	url, drop, err := server.CreateVHost(context.Background(), "bankfeed_test")
	if err != nil {
		t.Fatal(err)
	}
	cleanup(t, drop)
	return url
}

// PrivatePostgres starts a PostgreSQL server for this test alone, which it may kill and start again.
func PrivatePostgres(t testing.TB, o backing.PostgresOptions) *backing.PostgresInstance {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	server, err := backing.PrivatePostgres(ctx, o)
	need(t, err)
	cleanup(t, server.Stop)
	return server
}

// PrivateRabbitMQ starts a RabbitMQ broker for this test alone, which it may kill and start again.
func PrivateRabbitMQ(t testing.TB) *backing.RabbitMQInstance {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	server, err := backing.PrivateRabbitMQ(ctx)
	need(t, err)
	cleanup(t, server.Stop)
	return server
}

// SpecDir returns the directory of other people's test data: recordings of banks, the Berlin Group's OpenAPI file, statement
// samples. They are not ours to ship, so the environment names them.
func SpecDir(t testing.TB) string {
	t.Helper()
	dir, set := os.LookupEnv(specEnv)
	if !set || dir == "" {
		t.Skip(notRun + specEnv + " is not set")
	}
	if _, err := os.ReadDir(dir); err != nil {
		t.Fatalf("%s: %v", specEnv, err)
	}
	return dir
}

// Bulk marks a test of 100,000 rows or more, or one of something that measures. It is named TestBulk…, and the race detector, which
// would make it take minutes, skips it: the test runner runs those tests a second time without it.
func Bulk(t testing.TB) {
	t.Helper()
	if RaceEnabled {
		t.Skip(bulk)
	}
}

// need skips the test when the service is missing and fails it when the service is there and broken.
func need(t testing.TB, err error) {
	t.Helper()
	if errors.Is(err, backing.ErrNotFound) {
		t.Skip(notRun + strings.Join(strings.Fields(err.Error()), " ")) // on one line, for the test runner
	}
	if err != nil {
		t.Fatal(err)
	}
}

func cleanup(t testing.TB, end func() error) {
	t.Cleanup(func() {
		if err := end(); err != nil {
			t.Error(err)
		}
	})
}
