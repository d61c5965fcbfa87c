// Package finapi holds the words of finAPI's APIs: Data Intelligence (data
// sources, their synchronization and its callback), the users of Access, the
// process controller. Types, closed lists, and the pure rendering of the hub's
// entities and events into them. It neither serves nor calls anything.
//
// Source of names, types, order and shapes: the vendor's page "Getting Started -
// Synchronize a Data Source" and, where it is silent, the OpenAPI documents of
// Access and Web Form 2.0. Members that the vendor does not have are marked
// "extra"; its clients ignore them.
package finapi

import (
	"fmt"
	"time"

	"github.com/bankfeed/bankfeed"
)

// Zone is the time zone of every Time, unless the hub is told another one: the
// vendor writes German local time.
const Zone = "Europe/Berlin"

// Time is a moment on this wire, "2020-01-01 00:00:00.000" in local time without
// a zone.
type Time string

const layout = "2006-01-02 15:04:05.000"

// TimeOf writes a moment in a zone, cut to milliseconds.
func TimeOf(t time.Time, zone *time.Location) Time { return Time(t.In(zone).Format(layout)) }

// In reads it back. Of an hour that the zone has twice, when clocks go back, it
// is one of the two.
func (t Time) In(zone *time.Location) (time.Time, error) {
	parsed, err := time.ParseInLocation(layout, string(t), zone)
	if err != nil {
		return time.Time{}, fmt.Errorf("a time has the form %s", layout)
	}
	return parsed, nil
}

// Renderer writes the hub's entities in these words.
type Renderer struct {
	Installation bankfeed.Installation
	Zone         *time.Location
}

func (r Renderer) time(t time.Time) Time { return TimeOf(t, r.Zone) }

func orNil(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

// FormTime is a moment as Web Form 2.0 writes it:
// "2020-01-01T00:00:00.000+0100".
type FormTime string

// FormTimeOf writes a moment in a zone, cut to milliseconds.
func FormTimeOf(t time.Time, zone *time.Location) FormTime {
	return FormTime(t.In(zone).Format("2006-01-02T15:04:05.000-0700"))
}
