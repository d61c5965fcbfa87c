package backing

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// Ctl runs rabbitmqctl on this broker. Each call starts an Erlang machine, which takes a second or two.
func (s *RabbitMQInstance) Ctl(ctx context.Context, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	program := filepath.Join(filepath.Dir(s.program), "rabbitmqctl") // the one on the PATH may be the system's wrapper
	cmd := exec.CommandContext(ctx, program, append([]string{"--quiet"}, args...)...)
	cmd.Dir, cmd.Env = s.dir, s.env
	var out, complaints bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &complaints
	if err := detach(cmd, s.as); err != nil {
		return "", err
	}
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("rabbitmqctl %s: %w: %s", args[0], err, strings.Join(strings.Fields(complaints.String()+out.String()), " "))
	}
	return out.String(), nil
}

// CloseConnections has the broker close every client's connection, as its operator may.
func (s *RabbitMQInstance) CloseConnections(ctx context.Context) error {
	_, err := s.Ctl(ctx, "close_all_connections", "--global", "a test closes all connections")
	return err
}

// MemoryAlarm begins or ends an alarm: the broker reads nothing more from connections that publish.
func (s *RabbitMQInstance) MemoryAlarm(ctx context.Context, on bool) error {
	mark := "0.4" // RabbitMQ's own
	if on {
		mark = "0" // documented to block at once
	}
	_, err := s.Ctl(ctx, "set_vm_memory_high_watermark", mark)
	return err
}
