package backing

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// instance is a private server: a program on data and ports of its own, which can end and be started again.
type instance struct {
	program  string
	args     []string
	env      []string // nil: ours
	as       owner
	dir      string                      // holds all it writes
	cleanup  string                      // shell script of the guard; $1 is the process id
	orderly  os.Signal                   // asks it to stop
	answers  func(context.Context) error // nil once it does
	released func(context.Context) error // waits until a killed server has let go of its ports; may be nil
	occupied string                      // what it says when it ends because children of a killed one still hold its data
	sweeper  *guard                      // removes the directory if nobody else does
	p        *process
}

// newInstance makes the directory of a private server and hands it to the first of the accounts that exists.
func newInstance(ctx context.Context, name string, accounts ...string) (instance, error) {
	as, err := unprivileged(accounts...)
	if err != nil {
		return instance{}, err
	}
	dir, err := os.MkdirTemp("", "bankfeed-"+name+"-")
	if err != nil {
		return instance{}, err
	}
	i := instance{as: as, dir: dir}
	// Several passes: what was interrupted, initdb for one, may still be writing.
	if i.sweeper, err = newGuard(ctx, `for pass in 1 2 3 4 5; do rm -rf "$1"; sleep 1; done`, dir); err == nil {
		err = as.give(dir)
	}
	if err != nil {
		return instance{}, errors.Join(err, i.remove())
	}
	return i, nil
}

// writeFile puts a file that only the server may read into its directory.
func (i *instance) writeFile(name, text string) (path string, err error) {
	path = filepath.Join(i.dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		return "", err
	}
	return path, i.as.give(path)
}

// Start starts the server, also again after Kill or Shutdown, and returns once it answers.
func (i *instance) Start(ctx context.Context) error {
	if i.p.running() {
		return nil
	}
	ctx, cancel := context.WithTimeoutCause(ctx, startPatience, fmt.Errorf("no answer within %s", startPatience))
	defer cancel()
	for {
		again, err := i.start(ctx)
		if !again {
			return err
		}
		if cause := pause(ctx); cause != nil {
			return fmt.Errorf("%w: %w", cause, err)
		}
	}
}

// start tries once. again says that the failure passes by itself.
func (i *instance) start(ctx context.Context) (again bool, err error) {
	p, err := startProcess(ctx, i.as, i.dir, filepath.Join(i.dir, "log"), i.env, i.program, i.args...)
	if err != nil {
		return false, err
	}
	i.p = p
	if p.guard, err = newGuard(ctx, i.cleanup, strconv.Itoa(p.cmd.Process.Pid)); err != nil {
		return false, errors.Join(err, i.Kill())
	}
	for {
		err := i.answers(ctx)
		if err == nil {
			return false, nil
		}
		if !p.running() {
			words := p.lastWords()
			again = i.occupied != "" && strings.Contains(words, i.occupied)
			return again, errors.Join(fmt.Errorf("the server ended: %s", words), i.Kill())
		}
		if cause := pause(ctx); cause != nil {
			return false, errors.Join(fmt.Errorf("%w: %w: %s", cause, err, p.lastWords()), i.Kill())
		}
	}
}

// Shutdown ends the server in good order, cutting open connections, and keeps its data for the next Start.
func (i *instance) Shutdown() error {
	return i.halt(func(p *process) error { return p.end(i.orderly, 30*time.Second) })
}

// Kill ends the server and its children at once, as `kill -9` or the loss of power does, and keeps its data for the next Start.
func (i *instance) Kill() error { return i.halt((*process).kill) }

func (i *instance) halt(end func(*process) error) error {
	if i.p == nil {
		return nil
	}
	err := end(i.p)
	i.p.guard.dismiss()
	i.p = nil
	if i.released != nil {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		err = errors.Join(err, i.released(ctx))
	}
	return err
}

// remove ends the server and deletes its data.
func (i *instance) remove() error {
	err := errors.Join(i.Kill(), os.RemoveAll(i.dir))
	i.sweeper.dismiss()
	i.sweeper = nil
	return err
}
