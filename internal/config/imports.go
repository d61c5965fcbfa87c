package config

// ImportSettings bound what clients hand in.
type ImportSettings struct {
	ImportMaxMiB  string `name:"import-max-mib" env:"BANKFEED_IMPORT_MAX_MIB" default:"128" placeholder:"MIB" help:"Size of a document of accounts and transactions that a client hands in, at most. It waits encrypted in a temporary file."`
	ImportsAtOnce string `env:"BANKFEED_IMPORTS_AT_ONCE" default:"4" placeholder:"N" help:"Documents that this node stores at the same time; four times as many may be on their way in."`
}

// Imports are ImportSettings, checked.
type Imports struct {
	MaxBytes int64
	AtOnce   int
}

func (s ImportSettings) check(f *faults) Imports {
	return Imports{MaxBytes: int64(f.number("import-max-mib", s.ImportMaxMiB, 1, 10_240)) << 20, AtOnce: f.number("imports-at-once", s.ImportsAtOnce, 1, 1000)}
}
