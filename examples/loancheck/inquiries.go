package main

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/client/process"
)

// inquiry is what the application keeps itself. Its process has the same id.
type inquiry struct {
	ID     string
	Owner  string // hash of the browser's cookie
	Amount string
	// Errand is the token of the process controller: user tokens are had for it.
	Errand bankfeed.Secret
	Token  bankfeed.Secret // the first of them; exchanges are limited
	Form   string          // id of the web form
	URL    bankfeed.Secret // of the web form
}

// inquiries is the application's own table, beside those of processsql.
type inquiries struct {
	db     *sql.DB
	sealer process.Sealer
}

func (q inquiries) migrate(ctx context.Context) error {
	_, err := q.db.ExecContext(ctx, `CREATE TABLE IF NOT EXISTS inquiries (
		id TEXT PRIMARY KEY, owner TEXT NOT NULL, amount TEXT NOT NULL, form TEXT NOT NULL,
		errand BLOB NOT NULL, token BLOB NOT NULL, url BLOB NOT NULL, -- sealed
		created_at INTEGER NOT NULL) STRICT`)
	return err
}

// secrets of an inquiry, by the name under which they are sealed.
func (i *inquiry) secrets() map[string]*bankfeed.Secret {
	return map[string]*bankfeed.Secret{"errand": &i.Errand, "token": &i.Token, "url": &i.URL}
}

func (q inquiries) add(ctx context.Context, i inquiry) error {
	sealed := map[string][]byte{}
	for name, value := range i.secrets() {
		text, err := q.sealer.Encrypt([]byte(*value), []byte(name+" "+i.ID))
		if err != nil {
			return err
		}
		sealed[name] = text
	}
	_, err := q.db.ExecContext(ctx, "INSERT INTO inquiries (id, owner, amount, form, errand, token, url, created_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
		i.ID, i.Owner, i.Amount, i.Form, sealed["errand"], sealed["token"], sealed["url"], time.Now().UnixMilli())
	return err
}

var errUnknown = errors.New("there is no such inquiry")

func (q inquiries) get(ctx context.Context, id string) (i inquiry, err error) {
	var errand, token, url []byte
	err = q.db.QueryRowContext(ctx, "SELECT id, owner, amount, form, errand, token, url FROM inquiries WHERE id = $1", id).
		Scan(&i.ID, &i.Owner, &i.Amount, &i.Form, &errand, &token, &url)
	if errors.Is(err, sql.ErrNoRows) {
		return i, errUnknown
	}
	if err != nil {
		return i, err
	}
	sealed := map[string][]byte{"errand": errand, "token": token, "url": url}
	for name, value := range i.secrets() {
		text, err := q.sealer.Decrypt(sealed[name], []byte(name+" "+i.ID))
		if err != nil {
			return i, err
		}
		*value = bankfeed.Secret(text)
	}
	return i, nil
}
