//go:build unix

package backing

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"strconv"
	"strings"
	"syscall"
)

// owner is the account a server runs as; the zero value is our own.
type owner struct {
	uid, gid uint32
	other    bool
}

// unprivileged returns the account to run a server as: our own, or the first of the named ones when we are root, because initdb
// refuses root and a server needs no such power.
func unprivileged(names ...string) (owner, error) {
	if os.Getuid() != 0 {
		return owner{}, nil
	}
	for _, name := range names {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err1 := strconv.ParseUint(u.Uid, 10, 32)
		gid, err2 := strconv.ParseUint(u.Gid, 10, 32)
		if err := errors.Join(err1, err2); err != nil {
			return owner{}, fmt.Errorf("account %s: %w", name, err)
		}
		return owner{uid: uint32(uid), gid: uint32(gid), other: true}, nil
	}
	return owner{}, fmt.Errorf("running as root, and none of the accounts %q exists", names)
}

// give hands a file or directory to the owner.
func (o owner) give(path string) error {
	if !o.other {
		return nil
	}
	return os.Chown(path, int(o.uid), int(o.gid))
}

func detach(cmd *exec.Cmd, as owner) error {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if as.other {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: as.uid, Gid: as.gid}
	}
	return nil
}

// killTree kills the process group and the process's children, which may have left the group: those of PostgreSQL do, and one
// that is busy would outlive its server by the length of a query.
func killTree(ctx context.Context, pid int) error {
	table, err := output(ctx, "ps", "-A", "-o", "pid=", "-o", "ppid=")
	targets := []int{-pid}
	for line := range strings.Lines(table) {
		var child, parent int
		if _, err := fmt.Sscan(line, &child, &parent); err == nil && parent == pid {
			targets = append(targets, child)
		}
	}
	errs := []error{err}
	for _, target := range targets {
		if err := syscall.Kill(target, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// What PostgreSQL makes of signals: a fast shutdown ends open connections, an orderly one waits for them.
var (
	fastShutdown = os.Signal(syscall.SIGINT)
	terminate    = os.Signal(syscall.SIGTERM)
)
