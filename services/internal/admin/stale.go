package admin

import "github.com/prometheus/client_golang/prometheus"

// WatchStale adds a gauge for each group of files that are read again when they
// change: 1 as long as their newest content cannot be used and the one before
// stays in force. It is no matter of /readyz: the service works, and taking it out
// of service would turn a wrong line in a file into an outage. check is called at
// each look, so that a broken file is noticed (and logged) before anybody needs it.
func WatchStale(r prometheus.Registerer, check map[string]func() error) {
	for files, stale := range check {
		r.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "sluice_files_stale", Help: "1 while changed files of credentials are broken and the ones before stay in force.",
			ConstLabels: prometheus.Labels{"files": files},
		}, func() float64 {
			if stale() != nil {
				return 1
			}
			return 0
		}))
	}
}
