package auth

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"time"

	"github.com/e27efefb/sluice/pkg/transfer"
)

// watchPair loads a certificate chain and its key and follows both files. They
// are replaced one after the other; between the two they do not match, which
// is a broken content like any other: the old pair serves until they do.
func watchPair(certFile, keyFile string, opts Options) (*watched[*tls.Certificate], error) {
	now := opts.filled().Now
	parse := func(files [][]byte) (*tls.Certificate, error) {
		pair, err := tls.X509KeyPair(files[0], files[1])
		if err != nil {
			return nil, transfer.Errorf(transfer.Invalid, "read certificate and key", "", "%w", err).
				WithHint("both files are PEM, the certificate first in its file, and %s holds its key", keyFile)
		}
		if end := pair.Leaf.NotAfter; now().After(end) {
			return nil, transfer.Errorf(transfer.Invalid, "read certificate and key", "", "the certificate expired at %s", end.UTC().Format(time.RFC3339)).
				WithHint("make a new one (receiver cert)")
		}
		return &pair, nil
	}
	return watch(opts, parse, certFile, keyFile)
}

// watchPool loads a file of certificates of authorities and follows it.
func watchPool(file string, opts Options) (*watched[*x509.CertPool], error) {
	return watch(opts, func(files [][]byte) (*x509.CertPool, error) {
		certs, err := parseCertificates(files[0])
		if err != nil {
			return nil, transfer.Errorf(transfer.Invalid, "read certificate authorities", "", "%w", err)
		}
		pool := x509.NewCertPool()
		for _, c := range certs {
			pool.AddCert(c)
		}
		return pool, nil
	}, file)
}

// parseCertificates reads at least one PEM certificate and nothing else. (The
// pool's own AppendCertsFromPEM skips what it does not understand.)
func parseCertificates(b []byte) ([]*x509.Certificate, error) {
	var certs []*x509.Certificate
	for {
		var block *pem.Block
		if block, b = pem.Decode(b); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("the file has a PEM block %q, want CERTIFICATE only", block.Type)
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("certificate %d: %w", len(certs)+1, err)
		}
		certs = append(certs, c)
	}
	if len(certs) == 0 {
		return nil, errors.New("the file has no PEM certificate")
	}
	return certs, nil
}
