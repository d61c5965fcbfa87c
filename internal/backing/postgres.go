package backing

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// PostgresEnv names a PostgreSQL server for tests and bench, as a postgres:// URL whose role may create databases.
const PostgresEnv = "BANKFEED_TEST_DATABASE_URL"

// PostgresServer is a PostgreSQL server that answers.
type PostgresServer struct {
	URL     string // of an administrative database, with a role that may create others; holds the password
	Source  string // where it was found, to be shown: "environment", "listening on 127.0.0.1:5432", "started /usr/lib/…", "docker postgres:17"
	Version string // as the server states it: "15.20 (Debian 15.20-0+deb12u1)"
	stop    func() error
}

// Postgres finds or starts a PostgreSQL server. The caller stops it.
func Postgres(ctx context.Context) (*PostgresServer, error) {
	if named := os.Getenv(PostgresEnv); named != "" {
		s, err := openPostgres(ctx, named, "environment")
		if err != nil {
			return nil, fmt.Errorf("PostgreSQL of %s: %w", PostgresEnv, err)
		}
		return s, nil
	}
	s, errListening := openPostgres(ctx, "postgres://postgres@127.0.0.1:5432/postgres?sslmode=disable", "listening on 127.0.0.1:5432")
	if errListening == nil {
		return s, nil
	}
	p, errInstalled := PrivatePostgres(ctx, PostgresOptions{})
	if errInstalled == nil {
		return &p.PostgresServer, nil
	}
	s, errDocker := dockerPostgres(ctx)
	if errDocker == nil {
		return s, nil
	}
	return nil, fmt.Errorf("PostgreSQL %w: %s is not set; %w; %w; %w", ErrNotFound, PostgresEnv, errListening, errInstalled, errDocker)
}

func openPostgres(ctx context.Context, dsn, source string) (*PostgresServer, error) {
	s := &PostgresServer{URL: dsn, Source: source}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	err := s.exec(ctx, func(c *pgx.Conn) error {
		s.Version = c.PgConn().ParameterStatus("server_version")
		var may bool
		if err := c.QueryRow(ctx, "SELECT rolsuper OR rolcreatedb FROM pg_roles WHERE rolname = current_user").Scan(&may); err != nil {
			return err
		}
		if !may {
			return errors.New("its role may not create databases")
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return s, nil
}

// exec runs f on a connection of its own to the administrative database.
func (s *PostgresServer) exec(ctx context.Context, f func(*pgx.Conn) error) error {
	c, err := pgx.Connect(ctx, s.URL)
	if err != nil {
		return err
	}
	defer c.Close(context.WithoutCancel(ctx))
	return f(c)
}

// Env is what names this server to child processes.
func (s *PostgresServer) Env() []string { return []string{PostgresEnv + "=" + s.URL} }

// Stop ends a server that was started for us, with its data. It leaves a server that was only found alone.
func (s *PostgresServer) Stop() error {
	if s.stop == nil {
		return nil
	}
	return s.stop()
}

// Relax lets the commits of a database return before they are on disk: they
// outlive everything but the end of the server.
func (s *PostgresServer) Relax(ctx context.Context, dsn string) error {
	u, err := url.Parse(dsn)
	if err != nil {
		return errors.New("the database's URL cannot be parsed") // url's own error would print the password
	}
	return s.exec(ctx, func(c *pgx.Conn) error {
		_, err := c.Exec(ctx, "ALTER DATABASE "+pgx.Identifier{strings.TrimPrefix(u.Path, "/")}.Sanitize()+" SET synchronous_commit = off")
		return err
	})
}

// CreateDatabase makes an empty UTF-8 database named prefix_<random> and returns its URL. The prefix says what it is for
// (bankfeed_test, bankfeed_bench). drop ends the connections to it and removes it; it works after ctx has ended.
func (s *PostgresServer) CreateDatabase(ctx context.Context, prefix string) (dsn string, drop func() error, err error) {
	return s.create(ctx, prefix, "template0 ENCODING 'UTF8'")
}

// CopyDatabase is CreateDatabase with the content of a template.
func (s *PostgresServer) CopyDatabase(ctx context.Context, prefix, template string) (dsn string, drop func() error, err error) {
	return s.create(ctx, prefix, pgx.Identifier{template}.Sanitize())
}

// templates is what the names of all templates begin with.
const templates = "bankfeed_template_"

// Template makes a database to copy, unless it is there, and returns its name, which
// ends with key. fill is handed an empty one and leaves no connection to it open.
func (s *PostgresServer) Template(ctx context.Context, key string, fill func(dsn string) error) (name string, err error) {
	name = templates + key
	return name, s.exec(ctx, func(c *pgx.Conn) error {
		// Other test binaries want the same one; the lock ends with the connection.
		if _, err := c.Exec(ctx, "SELECT pg_advisory_lock(hashtext($1))", name); err != nil {
			return err
		}
		var there bool
		if err := c.QueryRow(ctx, "SELECT EXISTS (SELECT 1 FROM pg_database WHERE datname = $1)", name).Scan(&there); err != nil || there {
			return err
		}
		dsn, drop, err := s.CreateDatabase(ctx, templates+"new")
		if err != nil {
			return err
		}
		u, err := url.Parse(dsn)
		if err == nil {
			err = fill(dsn)
		}
		if err == nil {
			_, err = c.Exec(ctx, "ALTER DATABASE "+pgx.Identifier{strings.TrimPrefix(u.Path, "/")}.Sanitize()+" RENAME TO "+pgx.Identifier{name}.Sanitize())
		}
		if err != nil {
			return errors.Join(err, drop())
		}
		return nil
	})
}

// DropTemplates removes what Template has made.
func (s *PostgresServer) DropTemplates(ctx context.Context) error {
	return s.exec(ctx, func(c *pgx.Conn) error {
		rows, err := c.Query(ctx, "SELECT datname FROM pg_database WHERE starts_with(datname, $1)", templates)
		if err != nil {
			return err
		}
		names, err := pgx.CollectRows(rows, pgx.RowTo[string])
		for _, name := range names {
			if err == nil {
				_, err = c.Exec(ctx, "DROP DATABASE IF EXISTS "+pgx.Identifier{name}.Sanitize()+" WITH (FORCE)")
			}
		}
		return err
	})
}

func (s *PostgresServer) create(ctx context.Context, prefix, template string) (dsn string, drop func() error, err error) {
	u, err := url.Parse(s.URL)
	if err != nil {
		return "", nil, errors.New("the server's URL cannot be parsed") // url's own error would print the password
	}
	if u.Scheme != "postgres" && u.Scheme != "postgresql" {
		return "", nil, errors.New("the server's address is not a postgres:// URL")
	}
	name := prefix + "_" + randomHex(8)
	quoted := pgx.Identifier{name}.Sanitize()
	err = s.exec(ctx, func(c *pgx.Conn) error {
		_, err := c.Exec(ctx, "CREATE DATABASE "+quoted+" TEMPLATE "+template)
		return err
	})
	if err != nil {
		return "", nil, fmt.Errorf("create database %s: %w", name, err)
	}
	u.Path = "/" + name
	drop = func() error {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
		defer cancel()
		err := s.exec(ctx, func(c *pgx.Conn) error {
			_, err := c.Exec(ctx, "DROP DATABASE IF EXISTS "+quoted+" WITH (FORCE)")
			return err
		})
		if err != nil {
			return fmt.Errorf("drop database %s: %w", name, err)
		}
		return nil
	}
	return u.String(), drop, nil
}

// PostgresOptions shape a private PostgreSQL server.
type PostgresOptions struct {
	// NoSync lets commits return before they are on disk: faster, and enough where a crash of the machine is not at issue.
	NoSync bool
	// Settings are further server parameters, as in postgresql.conf.
	Settings map[string]string
}

// PostgresInstance is a private PostgreSQL server that can be stopped, killed and started again on the same data and port.
// Stop ends it with its data.
type PostgresInstance struct {
	PostgresServer
	instance
}

// PrivatePostgres starts a PostgreSQL server from the installed binaries, in a temporary directory and on a free port of
// 127.0.0.1, whatever else is listening. The error is ErrNotFound when none is installed.
func PrivatePostgres(ctx context.Context, o PostgresOptions) (_ *PostgresInstance, err error) {
	initdb, err := postgresBinary("initdb")
	if err != nil {
		return nil, err
	}
	s := &PostgresInstance{}
	if s.instance, err = newInstance(ctx, "postgres", "postgres", "nobody"); err != nil {
		return nil, fmt.Errorf("private PostgreSQL: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("private PostgreSQL: %w", err), s.remove())
		}
	}()
	s.stop = s.remove
	s.program = filepath.Join(filepath.Dir(initdb), "postgres")
	s.Source = "started " + s.program
	s.orderly = fastShutdown
	s.occupied = "pre-existing shared memory block"
	// SIGQUIT ends the server and its children without a shutdown checkpoint: nobody will read the data again.
	s.cleanup = `kill -QUIT "$1"`
	s.answers = func(ctx context.Context) error {
		found, err := openPostgres(ctx, s.URL, s.Source)
		if err == nil {
			s.Version = found.Version
		}
		return err
	}
	password := randomHex(16)
	if err := s.initialise(ctx, initdb, password); err != nil {
		return nil, err
	}
	for attempt := 1; ; attempt++ {
		port, err := freePort(ctx)
		if err != nil {
			return nil, err
		}
		s.URL = fmt.Sprintf("postgres://postgres:%s@%s/postgres?sslmode=disable", password, loopback(port))
		s.args = postgresArgs(filepath.Join(s.dir, "data"), port, o)
		if err = s.Start(ctx); err == nil {
			return s, nil
		}
		if attempt == startAttempts || ctx.Err() != nil {
			return nil, err
		}
	}
}

// postgresBinary finds a program of PostgreSQL: on the PATH, else where Debian and its kin keep them.
func postgresBinary(name string) (string, error) {
	if path, err := exec.LookPath(name); err == nil {
		if path, err = filepath.EvalSymlinks(path); err == nil {
			return path, nil
		}
	}
	if path, ok := findBinary("/usr/lib/postgresql/*/bin/"+name, "/usr/pgsql-*/bin/"+name, "/usr/local/pgsql/bin/"+name); ok {
		return path, nil
	}
	return "", fmt.Errorf("installed PostgreSQL (%s) %w", name, ErrNotFound)
}

func (s *PostgresInstance) initialise(ctx context.Context, initdb, password string) error {
	pwfile, err := s.writeFile("password", password+"\n")
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, initdb, "--pgdata="+filepath.Join(s.dir, "data"), "--username=postgres", "--pwfile="+pwfile,
		"--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--no-sync")
	cmd.Dir = s.dir
	if err := detach(cmd, s.as); err != nil {
		return err
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("initdb: %w: %s", err, out)
	}
	return os.Remove(pwfile)
}

func postgresArgs(data string, port int, o PostgresOptions) []string {
	settings := map[string]string{
		"listen_addresses":        "127.0.0.1",
		"port":                    strconv.Itoa(port),
		"unix_socket_directories": "", // the default directory belongs to the system's own server
		"max_connections":         "300",
		"logging_collector":       "off", // so that its log is the output of the process
	}
	if o.NoSync {
		settings["fsync"], settings["synchronous_commit"], settings["full_page_writes"] = "off", "off", "off"
	}
	maps.Copy(settings, o.Settings)
	args := []string{"-D", data}
	for name, value := range settings {
		args = append(args, "-c", name+"="+value)
	}
	return args
}
