package backing

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"time"
)

// The images used when a server is neither running nor installed.
const (
	postgresImage = "postgres:17"
	rabbitImage   = "rabbitmq:4-management"
)

// container is a server in Docker that is removed by stop, or by its guard.
type container struct {
	id    string
	guard *guard
}

// runContainer starts the image with its ports published on free ports of 127.0.0.1.
func runContainer(ctx context.Context, image string, ports []string, env ...string) (*container, error) {
	docker, err := exec.LookPath("docker")
	if err != nil {
		return nil, fmt.Errorf("docker %w", ErrNotFound)
	}
	args := []string{"run", "--detach", "--rm"}
	for _, port := range ports {
		args = append(args, "--publish", "127.0.0.1::"+port)
	}
	for _, v := range env {
		args = append(args, "--env", v)
	}
	id, err := output(ctx, docker, append(args, image)...)
	if err != nil {
		return nil, err
	}
	c := &container{id: id}
	if c.guard, err = newGuard(ctx, `docker rm --force "$1" >/dev/null 2>&1`, id); err != nil {
		return nil, errors.Join(err, c.stop())
	}
	return c, nil
}

// address returns where a port of the container is published.
func (c *container) address(ctx context.Context, port string) (string, error) {
	text, err := output(ctx, "docker", "port", c.id, port)
	first, _, _ := strings.Cut(text, "\n")
	return first, err
}

func (c *container) stop() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	_, err := output(ctx, "docker", "rm", "--force", c.id)
	c.guard.dismiss()
	return err
}

func dockerPostgres(ctx context.Context) (_ *PostgresServer, err error) {
	password := randomHex(16)
	c, err := runContainer(ctx, postgresImage, []string{"5432"}, "POSTGRES_PASSWORD="+password)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, c.stop())
		}
	}()
	address, err := c.address(ctx, "5432")
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, startPatience, fmt.Errorf("no answer within %s", startPatience))
	defer cancel()
	dsn := fmt.Sprintf("postgres://postgres:%s@%s/postgres?sslmode=disable", password, address)
	for {
		s, err := openPostgres(ctx, dsn, "docker "+postgresImage)
		if err == nil {
			s.stop = c.stop
			return s, nil
		}
		if cause := pause(ctx); cause != nil {
			return nil, fmt.Errorf("%s in docker: %w: %w", postgresImage, cause, err)
		}
	}
}

// output runs a program and returns what it printed, without the white space around it.
func output(ctx context.Context, name string, args ...string) (string, error) {
	out, err := exec.CommandContext(ctx, name, args...).Output()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		return "", fmt.Errorf("%s %s: %w: %s", name, args[0], err, strings.TrimSpace(string(exit.Stderr)))
	}
	if err != nil {
		return "", fmt.Errorf("%s %s: %w", name, args[0], err)
	}
	return strings.TrimSpace(string(out)), nil
}
