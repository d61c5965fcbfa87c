package store

import (
	"context"
	"database/sql"

	"github.com/bankfeed/bankfeed"
)

// AppendEvents commits the events of a change and nothing else of it.
func (s *Store) AppendEvents(ctx context.Context, c *bankfeed.Change) (done bankfeed.Committed, err error) {
	sealed, err := s.sealEvents(ctx, c)
	if err != nil {
		return done, err
	}
	err = s.tx(ctx, func(tx *sql.Tx) error {
		done, err = s.appendEvents(ctx, tx, c, sealed)
		return err
	})
	if err == nil {
		s.committed(done)
	}
	return done, err
}

// SealEvents is the part of a commit that comes before its transaction.
func (s *Store) SealEvents(ctx context.Context, c *bankfeed.Change) error {
	_, err := s.sealEvents(ctx, c)
	return err
}
