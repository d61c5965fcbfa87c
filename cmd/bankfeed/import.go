package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/app"
	"github.com/bankfeed/bankfeed/internal/config"
)

type importCommand struct {
	config.Common
	File       string `arg:"" name:"file" help:"JSON as of POST /api/v1/dataSources/transactions; - reads it from standard input."`
	User       string `required:"" placeholder:"ID" help:"Whose accounts they are: number, UUID or external id."`
	NewUser    bool   `help:"Make the user, of that external id, if there is none."`
	Sandbox    bool   `help:"A user that is made belongs to the sandbox."`
	Tenant     string `placeholder:"NAME" help:"The company that owns the data. Default: the only one."`
	DataSource string `placeholder:"ID" help:"Add to this data source, by number or UUID, instead of making one."`
	Key        string `placeholder:"TEXT" help:"Your own name for the import: repeated with it, it changes nothing."`
	MaxMiB     int64  `name:"max-mib" default:"1024" placeholder:"MIB" help:"Size of the document, at most."`
	JSON       bool   `name:"json" help:"Print JSON."`
}

func (c *importCommand) Run(ctx context.Context, t *terminal) (err error) {
	var in io.Reader = os.Stdin
	if c.File != "-" {
		f, err := os.Open(c.File)
		if err != nil {
			return err
		}
		defer f.Close()
		in = f
	}
	if c.MaxMiB < 1 || c.MaxMiB > 1<<20 {
		return bankfeed.InvalidField("max-mib", "expected a number from 1 to %d", 1<<20)
	}
	d, err := t.openData(ctx, c.Common)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	done, called, err := d.Import(ctx, app.ImportText{Tenant: c.Tenant, User: c.User, NewUser: c.NewUser, Sandbox: c.Sandbox,
		DataSource: c.DataSource, Key: c.Key, MaxBytes: c.MaxMiB << 20}, in)
	var faults bankfeed.Faults
	switch {
	case errors.As(err, &faults):
		return errors.Join(faults.Unwrap()...)
	case errors.Is(err, bankfeed.ErrNotFound):
		return errors.New("there is no such data source of this user")
	case err != nil:
		return err
	}
	if called {
		fmt.Fprintln(t.err, "The callbackUrl of the document is not called: the import has ended with this command.")
	}
	if c.JSON {
		return json.NewEncoder(t.out).Encode(map[string]any{"data_source_id": done.UUID, "external_id": int64(done.Connection), "repeated": done.Repeated,
			"created": done.Created, "updated": done.Updated, "unchanged": done.Unchanged})
	}
	if done.Repeated {
		_, err = fmt.Fprintf(t.out, "data source %s: was imported before\n", done.UUID)
		return err
	}
	_, err = fmt.Fprintf(t.out, "data source %s: %d transactions new, %d updated, %d unchanged\n", done.UUID, done.Created, done.Updated, done.Unchanged)
	return err
}
