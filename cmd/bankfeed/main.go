// Command bankfeed is the hub: server, demo, simulated bank and administration
// in one binary. Each subcommand has a file.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/alecthomas/kong"

	"github.com/bankfeed/bankfeed/internal/app"
	"github.com/bankfeed/bankfeed/internal/config"
)

const about = "A self-hosted open-banking hub: connects banks, synchronizes accounts and transactions, and tells your software what happened."

// commands is the command line.
type commands struct {
	Serve   serveCommand   `cmd:"" help:"Run the hub."`
	Demo    demoCommand    `cmd:"" help:"Show everything at work: a bank, a hub and a client that talk to each other."`
	Sandbox sandboxCommand `cmd:"" help:"Run the simulated bank alone."`
	Client  clientCommand  `cmd:"" help:"Manage the clients that may call the API."`
	Import  importCommand  `cmd:"" help:"Store accounts and transactions from a file."`
	Replay  replayCommand  `cmd:"" help:"Send events to a stream again."`
	Migrate migrateCommand `cmd:"" help:"Bring the database's schema up to date."`
	Keys    keysCommand    `cmd:"" help:"Manage the keys that seal data."`
	Bench   benchCommand   `cmd:"" help:"Measure the hub on this machine."`
	Doctor  doctorCommand  `cmd:"" help:"Say what is wrong, if something is."`
	Version versionCommand `cmd:"" help:"Show the build and what it stands on."`
}

// terminal is what a command reads from and writes to besides files.
type terminal struct {
	out, err io.Writer
	file     *config.Resolver // holds the file of --config
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// The second signal ends the process the hard way.
	context.AfterFunc(ctx, stop)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// Exit codes.
const (
	exitFailed = 1
	exitUsage  = 2
)

// run is the process without its globals.
func run(ctx context.Context, args []string, out, errs io.Writer) (code int) {
	t := &terminal{out: out, err: errs, file: &config.Resolver{}}
	exited := -1
	parser, err := kong.New(&commands{}, kong.Name("bankfeed"), kong.Description(about), kong.Resolvers(t.file), kong.Bind(t),
		kong.BindTo(ctx, (*context.Context)(nil)), kong.Writers(out, errs), kong.ConfigureHelp(kong.HelpOptions{Compact: true, WrapUpperBound: 120}),
		kong.Exit(func(code int) { exited = code; panic(exit{}) }))
	if err != nil {
		fmt.Fprintln(errs, "bankfeed:", err)
		return exitUsage
	}
	defer func() {
		if p := recover(); p != nil {
			if _, ok := p.(exit); !ok {
				panic(p)
			}
			code = exited
		}
	}()
	if len(args) == 0 {
		args = []string{"--help"}
	}
	chosen, err := parser.Parse(args)
	if err != nil {
		fmt.Fprintf(errs, "bankfeed: %s (see bankfeed --help)\n", oneLine(err))
		return exitUsage
	}
	if err := chosen.Run(); err != nil {
		report(errs, err)
		return exitFailed
	}
	return 0
}

// exit unwinds the stack when kong wants the process to end: after --help.
type exit struct{}

// errSilent ends a command that has said itself what is wrong.
var errSilent = errors.New("")

// report writes an error for people: what is wrong, on one line, or a line for
// each of several faults.
func report(w io.Writer, err error) {
	if errors.Is(err, errSilent) {
		return
	}
	faults := split(err)
	if len(faults) == 1 {
		fmt.Fprintln(w, "bankfeed:", oneLine(faults[0]))
		return
	}
	fmt.Fprintf(w, "bankfeed: %d faults:\n", len(faults))
	for _, f := range faults {
		fmt.Fprintln(w, "  -", oneLine(f))
	}
}

// split undoes errors.Join.
func split(err error) []error {
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok || strings.Count(err.Error(), "\n") == 0 {
		return []error{err}
	}
	var all []error
	for _, e := range joined.Unwrap() {
		all = append(all, split(e)...)
	}
	return all
}

func oneLine(err error) string { return strings.Join(strings.Fields(err.Error()), " ") }

// serverConfig checks the settings of serve and doctor, banks and streams
// included.
func (t *terminal) serverConfig(s config.Settings) (config.Config, error) {
	c, err := s.Check(t.file.File)
	return c, errors.Join(err, app.CheckBanks(c), app.CheckStreams(c), app.CheckRules(c))
}

// dataConfig checks the settings of a command that works on the data.
func (t *terminal) dataConfig(s config.Common) (config.Config, error) { return s.Check(t.file.File) }

// openData opens the data for a command.
func (t *terminal) openData(ctx context.Context, s config.Common) (*app.Data, error) {
	c, err := t.dataConfig(s)
	if err != nil {
		return nil, err
	}
	return app.OpenData(ctx, c.Storage)
}
