//go:build !unix

package backing

import (
	"context"
	"errors"
	"os"
	"os/exec"
)

var errNoPrivate = errors.New("private servers need a Unix system")

type owner struct{}

func unprivileged(...string) (owner, error) { return owner{}, errNoPrivate }

func (owner) give(string) error { return errNoPrivate }

func detach(*exec.Cmd, owner) error { return errNoPrivate }

func killTree(context.Context, int) error { return errNoPrivate }

var (
	fastShutdown = os.Kill
	terminate    = os.Kill
)
