package store_test

import (
	"testing"

	"github.com/e27efefb/sluice/pkg/store"
	"github.com/e27efefb/sluice/pkg/store/storetest"
)

func TestConformance(t *testing.T) {
	storetest.Run(t, storetest.Harness{
		Open: func(cfg store.Config) (store.Store, error) {
			d, err := store.Open(cfg)
			if err != nil {
				return nil, err
			}
			return d, nil
		},
		Crash: func(s store.Store) { s.(*store.Disk).Crash() }, //nolint:forcetypeassert // made above
	})
}
