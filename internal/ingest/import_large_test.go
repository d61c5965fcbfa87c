package ingest_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/bankfeed/bankfeed/internal/backing/backingtest"
	"github.com/bankfeed/bankfeed/internal/ingest"
	"github.com/bankfeed/bankfeed/internal/store"
	"github.com/bankfeed/bankfeed/internal/store/storetest"
)

// stream writes a document of n transactions while it is read, so that it is
// nowhere whole. Every third has an id, every third is a twin of the one before.
func stream(n int) io.Reader {
	r, w := io.Pipe()
	go func() {
		b := bufio.NewWriter(w)
		fmt.Fprintf(b, `{"bankName":"Big","accounts":[{"iban":"%s","balance":1,"transactions":[`, ibanA)
		purpose := strings.Repeat("text ", 40)
		for i := range n {
			if i > 0 {
				b.WriteByte(',')
			}
			id, twin := "", i-i%3/2
			if i%3 == 0 {
				id = fmt.Sprintf(`"id":"t%d",`, i)
			}
			fmt.Fprintf(b, `{%s"amount":-%d.25,"bankBookingDate":"2025-%02d-%02d","purpose":"%s","counterpartName":"Counterparty number %d","counterpartIban":"%s"}`,
				id, twin, twin/28%12+1, twin%28+1, purpose, twin, ibanB)
		}
		b.WriteString(`]}]}`)
		w.CloseWithError(b.Flush())
	}()
	return r
}

// peak watches the heap until stop is called, which returns by how much it grew.
func peak() (stop func() uint64) {
	runtime.GC()
	var idle, now runtime.MemStats
	runtime.ReadMemStats(&idle)
	quit, most := make(chan struct{}), make(chan uint64)
	go func() {
		top := idle.HeapInuse
		for {
			select {
			case <-quit:
				most <- top - idle.HeapInuse
				return
			case <-time.After(20 * time.Millisecond):
				runtime.ReadMemStats(&now)
				top = max(top, now.HeapInuse)
			}
		}
	}()
	return func() uint64 { close(quit); return <-most }
}

func TestBulkAHundredThousandTransactionsTakeLittleMemory(t *testing.T) {
	backingtest.Bulk(t)
	const n = 100_000
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		d := newDesk(t, s)
		d.config.CommitRows = 0
		d.engine = ingest.New(d.config)
		for _, round := range []string{"first", "again, as later data"} {
			o := d.importOrder()
			if round != "first" {
				all, err := s.Connections(t.Context(), d.tenant, d.user.ID)
				require.NoError(t, err)
				o.Connection = all[0].ID
			}
			began, stop := time.Now(), peak()
			done, err := d.engine.Import(context.Background(), o, stream(n))
			grown := stop()
			require.NoError(t, err)
			t.Logf("%s: %d created, %d unchanged in %v, %d MiB of heap at most", round, done.Created, done.Unchanged, time.Since(began).Round(time.Millisecond), grown>>20)
			require.Less(t, grown, uint64(64<<20))
			if round == "first" {
				require.Equal(t, n, done.Created)
			} else {
				require.Equal(t, n, done.Unchanged)
			}
		}
	})
}
