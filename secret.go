package bankfeed

// Secret is a text that must not appear in a log, an error or a URL: it prints
// and marshals as stars. Reading it takes an explicit conversion to string.
type Secret string

const stars = "***"

func (s Secret) String() string { return stars }

// GoString keeps %#v from showing the text.
func (s Secret) GoString() string { return stars }

// MarshalText keeps encoders and structured loggers from showing the text.
func (s Secret) MarshalText() ([]byte, error) { return []byte(stars), nil }
