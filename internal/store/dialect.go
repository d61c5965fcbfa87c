package store

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// forUpdate locks the rows of a SELECT until the transaction ends. On SQLite
// the one writer has locked everything already.
func (s *Store) forUpdate() string {
	if s.engine == Postgres {
		return " FOR UPDATE"
	}
	return ""
}

// inList is the right side of "column IN" for a parameter made by list.
func (s *Store) inList(param string) string {
	if s.engine == Postgres {
		return "(SELECT jsonb_array_elements_text(" + param + "::jsonb))"
	}
	return "(SELECT value FROM json_each(" + param + "))"
}

// inNumbers is inList for integer columns.
func (s *Store) inNumbers(param string) string {
	if s.engine == Postgres {
		return "(SELECT jsonb_array_elements_text(" + param + "::jsonb)::bigint)"
	}
	return s.inList(param)
}

// rowsOf is a table with the columns c0, c1 … of the given PostgreSQL types, for
// a parameter made by list from arrays.
func (s *Store) rowsOf(param string, types ...string) string {
	var columns strings.Builder
	for i, t := range types {
		if i > 0 {
			columns.WriteString(", ")
		}
		if s.engine == Postgres {
			fmt.Fprintf(&columns, "(value->>%d)::%s AS c%d", i, t, i)
		} else {
			fmt.Fprintf(&columns, "value->>%d AS c%d", i, i)
		}
	}
	if s.engine == Postgres {
		return "(SELECT " + columns.String() + " FROM jsonb_array_elements(" + param + "::jsonb) AS list)"
	}
	return "(SELECT " + columns.String() + " FROM json_each(" + param + "))"
}

// list packs values into one parameter, so that the statement stays the same
// for any number of them.
func list[T any](values []T) string {
	if values == nil {
		return "[]" // null would be an error on one engine and a NULL on the other
	}
	b, err := json.Marshal(values)
	if err != nil {
		panic("store: " + err.Error()) // only strings and integers are ever given
	}
	return string(b)
}

// startOver reports whether the server gave up a transaction that may succeed
// when it is run again.
func startOver(err error) bool {
	var pe *pgconn.PgError
	return errors.As(err, &pe) && (pe.Code == "40001" || pe.Code == "40P01")
}

// duplicate reports a violated unique constraint.
func duplicate(err error) bool {
	var pe *pgconn.PgError
	if errors.As(err, &pe) {
		return pe.Code == "23505"
	}
	var se *sqlite.Error
	if errors.As(err, &se) {
		return se.Code() == sqlite3.SQLITE_CONSTRAINT_UNIQUE || se.Code() == sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY
	}
	return false
}

// amountText is an amount as text.
func (s *Store) amountText() string {
	if s.engine == Postgres {
		return "amount::text"
	}
	return "amount"
}
