package demo

import (
	"fmt"
	"io"
	"sync"
)

// printer writes for people: bold headings and dim remarks on a terminal, plain
// text elsewhere. Events come from another goroutine.
type printer struct {
	mu     sync.Mutex
	out    io.Writer
	colour bool
	steps  int
}

const (
	bold  = "\x1b[1m"
	dim   = "\x1b[2m"
	green = "\x1b[32m"
	cyan  = "\x1b[36m"
	reset = "\x1b[0m"
)

func (p *printer) line(style, format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	text := fmt.Sprintf(format, args...)
	if p.colour && style != "" && text != "" {
		text = style + text + reset
	}
	_, _ = fmt.Fprintln(p.out, text) // a reader who has gone away ends the process, or does not matter
}

func (p *printer) title(format string, args ...any) {
	p.line("", "")
	p.line(bold, format, args...)
}

// step begins a numbered part.
func (p *printer) step(what string) {
	p.steps++
	p.title("%d. %s", p.steps, what)
}

func (p *printer) say(format string, args ...any) { p.line("", "   "+format, args...) }

func (p *printer) remark(format string, args ...any) { p.line(dim, "   "+format, args...) }

func (p *printer) command(format string, args ...any) { p.line(dim, "     "+format, args...) }

// event shows an entry of the queue, by its wire name.
func (p *printer) event(name, about string) { p.line(green, "   ▸ %-26s %s", name, about) }

// message shows a message of the stream, by its wire name.
func (p *printer) message(name, about string) { p.line(cyan, "   ◂ %-26s %s", name, about) }
