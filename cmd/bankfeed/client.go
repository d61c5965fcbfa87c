package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"text/tabwriter"
	"time"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/config"
)

type clientCommand struct {
	Create    clientCreate    `cmd:"" help:"Make a client and print its secret, once."`
	List      clientList      `cmd:"" help:"List the clients."`
	Callbacks clientCallbacks `cmd:"" help:"Say how often the callbacks of a client's requests are tried."`
	Secret    struct {
		Add    secretAdd    `cmd:"" help:"Give a client a second secret beside the one in use, and print it, once."`
		Revoke secretRevoke `cmd:"" help:"End a secret."`
	} `cmd:"" help:"Replace a client's secret without a pause: add, change over, revoke."`
}

type clientCreate struct {
	config.Common
	Sandbox bool   `help:"The client sees the sandbox's banks only; without it, the real ones only."`
	Tenant  string `placeholder:"NAME" help:"The company that owns the data; made if it does not exist. Default: default."`
	Name    string `placeholder:"NAME" default:"client" help:"What the client is called in lists."`
	JSON    bool   `name:"json" help:"Print JSON."`
}

func (c *clientCreate) Run(ctx context.Context, t *terminal) (err error) {
	d, err := t.openData(ctx, c.Common)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	made, err := d.Access().CreateClient(ctx, c.Tenant, c.Name, c.Sandbox)
	if err != nil {
		return err
	}
	return t.credentials(c.JSON, made.ID, made.Secret)
}

// credentials prints a secret that cannot be had again.
func (t *terminal) credentials(asJSON bool, id string, secret bankfeed.Secret) error {
	if asJSON {
		return json.NewEncoder(t.out).Encode(map[string]string{"client_id": id, "client_secret": string(secret)})
	}
	_, err := fmt.Fprintf(t.out, "client_id:     %s\nclient_secret: %s\n", id, string(secret))
	if err == nil {
		_, err = fmt.Fprintln(t.err, "The secret is shown this once; only its hash is stored.")
	}
	return err
}

type clientList struct {
	config.Common
	JSON bool `name:"json" help:"Print one JSON object a line."`
}

func (c *clientList) Run(ctx context.Context, t *terminal) (err error) {
	d, err := t.openData(ctx, c.Common)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	list, err := d.Access().ListClients(ctx)
	if err != nil {
		return err
	}
	type secretLine struct {
		Fingerprint string    `json:"fingerprint"`
		CreatedAt   time.Time `json:"created_at"`
	}
	type line struct {
		ID        string       `json:"client_id"`
		Tenant    string       `json:"tenant"`
		Name      string       `json:"name"`
		Sandbox   bool         `json:"sandbox"`
		Retries   string       `json:"callback_retries"`
		CreatedAt time.Time    `json:"created_at"`
		Secrets   []secretLine `json:"secrets"`
	}
	w := tabwriter.NewWriter(t.out, 0, 4, 2, ' ', 0)
	if !c.JSON {
		fmt.Fprintln(w, "CLIENT_ID\tTENANT\tNAME\tKIND\tCREATED\tSECRETS")
	}
	e := json.NewEncoder(t.out)
	for _, cl := range list {
		l := line{ID: cl.ID, Tenant: cl.Tenant, Name: cl.Name, Sandbox: cl.Sandbox, Retries: "schedule", CreatedAt: cl.CreatedAt, Secrets: []secretLine{}}
		kind, prints := "live", ""
		if cl.CallbacksOnce {
			l.Retries = "0"
		}
		if cl.Sandbox {
			kind = "sandbox"
		}
		for _, s := range cl.Secrets {
			if s.RevokedAt.IsZero() {
				l.Secrets = append(l.Secrets, secretLine{s.Fingerprint(), s.CreatedAt})
				prints += s.Fingerprint() + " "
			}
		}
		if c.JSON {
			if err := e.Encode(l); err != nil {
				return err
			}
			continue
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", l.ID, l.Tenant, l.Name, kind, l.CreatedAt.UTC().Format(time.DateOnly), prints)
	}
	return w.Flush()
}

type clientCallbacks struct {
	config.Common
	Client  string `arg:"" name:"client_id" help:"As client list shows it."`
	Retries string `required:"" enum:"0,schedule" placeholder:"0|schedule" help:"0: one attempt, whatever comes of it, as finAPI does it. schedule: as BANKFEED_CALLBACK_SCHEDULE says. For requests from now on."`
}

func (c *clientCallbacks) Run(ctx context.Context, t *terminal) (err error) {
	d, err := t.openData(ctx, c.Common)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	err = d.Access().SetCallbacksOnce(ctx, c.Client, c.Retries == "0")
	if errors.Is(err, bankfeed.ErrNotFound) {
		return errors.New("there is no such client: see bankfeed client list")
	}
	if err == nil {
		_, err = fmt.Fprintln(t.out, "set")
	}
	return err
}

type secretAdd struct {
	config.Common
	Client string `arg:"" name:"client_id" help:"As client list shows it."`
	JSON   bool   `name:"json" help:"Print JSON."`
}

func (c *secretAdd) Run(ctx context.Context, t *terminal) (err error) {
	d, err := t.openData(ctx, c.Common)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	secret, err := d.Access().AddSecret(ctx, c.Client)
	switch bankfeed.ErrorKindOf(err) {
	case bankfeed.NotFound:
		return errors.New("there is no such client: see bankfeed client list")
	case bankfeed.Conflict:
		return errors.New("the client has two live secrets already: revoke one first (bankfeed client secret revoke)")
	}
	if err != nil {
		return err
	}
	return t.credentials(c.JSON, c.Client, secret)
}

type secretRevoke struct {
	config.Common
	Client      string `arg:"" name:"client_id" help:"As client list shows it."`
	Fingerprint string `arg:"" help:"Of the secret, as client list shows it."`
}

func (c *secretRevoke) Run(ctx context.Context, t *terminal) (err error) {
	d, err := t.openData(ctx, c.Common)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	err = d.Access().RevokeSecret(ctx, c.Client, c.Fingerprint)
	if errors.Is(err, bankfeed.ErrNotFound) {
		return errors.New("there is no such live secret: see bankfeed client list")
	}
	if err == nil {
		_, err = fmt.Fprintln(t.out, "revoked")
	}
	return err
}
