package main

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

const (
	memory = "/dev/shm"
	tmpfs  = 0x01021994 // statfs(2), TMPFS_MAGIC
	noExec = 0x8        // and ST_NOEXEC
	// roomNeeded is several times what a whole run holds at its peak.
	roomNeeded = 4 << 30
)

// memoryDir makes a directory in memory, or returns "" where there is no room for one, or no program may be run from it.
// What runs that were killed have left there goes first.
func memoryDir() (string, error) {
	var fs syscall.Statfs_t
	err := syscall.Statfs(memory, &fs)
	if errors.Is(err, os.ErrNotExist) {
		return "", nil
	}
	if err != nil || fs.Type != tmpfs || fs.Flags&noExec != 0 {
		return "", err
	}
	const prefix = "bankfeed-test-"
	old, err := filepath.Glob(filepath.Join(memory, prefix+"*"))
	if err != nil {
		return "", err
	}
	for _, dir := range old {
		pid, err := strconv.Atoi(strings.TrimPrefix(filepath.Base(dir), prefix))
		if err == nil && syscall.Kill(pid, 0) == syscall.ESRCH {
			err = os.RemoveAll(dir)
		}
		if err != nil {
			return "", fmt.Errorf("what an earlier run has left: %w", err)
		}
	}
	available, err := memoryAvailable()
	if err != nil || min(available, fs.Bavail*uint64(fs.Bsize)) < roomNeeded {
		return "", err
	}
	dir := filepath.Join(memory, prefix+strconv.Itoa(os.Getpid()))
	return dir, os.Mkdir(dir, 0o755) //nolint:gosec // servers with an account of their own have directories in it
}

// memoryAvailable is how many bytes can be used without swapping: MemAvailable of proc_meminfo(5).
func memoryAvailable() (uint64, error) {
	f, err := os.Open("/proc/meminfo")
	if err != nil {
		return 0, err
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if rest, ok := strings.CutPrefix(lines.Text(), "MemAvailable:"); ok {
			kib, err := strconv.ParseUint(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
			return kib << 10, err
		}
	}
	return 0, nil
}
