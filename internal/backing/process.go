package backing

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"time"
)

// process is a server process that this one started, together with the guard that ends it if this one dies.
type process struct {
	cmd   *exec.Cmd
	log   string        // file with the output of the process
	from  int64         // where in it the output begins
	done  chan struct{} // closed once the process has ended
	guard *guard
}

// startProcess starts the program in dir, in its own process group so that a Ctrl-C at the terminal reaches only us. Its
// output goes to the file log and never to our own streams: `go test` waits until everyone who holds those has gone.
func startProcess(ctx context.Context, as owner, dir, log string, env []string, name string, args ...string) (*process, error) {
	out, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	before, err := out.Stat()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(context.WithoutCancel(ctx), name, args...)
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = dir, env, out, out
	if err := detach(cmd, as); err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	p := &process{cmd: cmd, log: log, from: before.Size(), done: make(chan struct{})}
	go func() {
		_ = cmd.Wait() // how it ended is in its log
		close(p.done)
	}()
	return p, nil
}

// running says whether the process has not ended yet.
func (p *process) running() bool {
	if p == nil {
		return false
	}
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// end sends the signal and waits; a process that is still there after the patience is killed with all its children.
func (p *process) end(sig os.Signal, patience time.Duration) error {
	if !p.running() {
		return nil
	}
	if err := p.cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("signal %s: %w", p.cmd.Path, err)
	}
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-p.done:
		return nil
	case <-timer.C:
		return errors.Join(fmt.Errorf("%s did not stop within %s", p.cmd.Path, patience), p.kill())
	}
}

// kill ends the process and its children at once, as the loss of the machine would.
func (p *process) kill() error {
	if !p.running() {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := killTree(ctx, p.cmd.Process.Pid); err != nil {
		return fmt.Errorf("kill %s: %w", p.cmd.Path, err)
	}
	<-p.done
	return nil
}

// lastWords is the end of the output, for the error of a process that did not come up.
func (p *process) lastWords() string {
	text, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	const most = 2000
	text = bytes.TrimSpace(text[min(int(p.from), len(text)):])
	if len(text) > most {
		text = text[len(text)-most:]
	}
	return string(text)
}

// guard is a small shell that waits on a pipe and cleans up when this process ends without having done so: a killed test
// binary, or one whose last test is over, leaves no server, container or directory behind.
type guard struct {
	cmd *exec.Cmd
	in  io.WriteCloser
}

// newGuard starts a guard that runs the shell script with the arguments ($1, $2, …) once this process is gone.
func newGuard(ctx context.Context, script string, args ...string) (*guard, error) {
	// A line means that all is well; only the end of the input means that nobody is left to clean up.
	line := append([]string{"-c", "read -r _ && exit 0\n" + script, "guard"}, args...)
	cmd := exec.CommandContext(context.WithoutCancel(ctx), "/bin/sh", line...)
	if err := detach(cmd, owner{}); err != nil {
		return nil, err
	}
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the guard: %w", err)
	}
	return &guard{cmd: cmd, in: in}, nil
}

// dismiss ends the guard without its script.
func (g *guard) dismiss() {
	if g == nil {
		return
	}
	_, _ = io.WriteString(g.in, "\n")
	_ = g.in.Close()
	_ = g.cmd.Wait()
}
