package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"

	"golang.org/x/mod/sumdb/tlog"
)

// A log over HTTP as Go's own client of the checksum database sees it.
type remote struct {
	url, token string
	tiles      *int
}

func (remote) Height() int { return height }

func (log remote) ReadTiles(wanted []tlog.Tile) ([][]byte, error) {
	found := make([][]byte, 0, len(wanted))
	for _, tile := range wanted {
		data, err := log.get(pathOf(tile))
		if err != nil {
			return nil, err
		}
		*log.tiles++
		found = append(found, data)
	}
	return found, nil
}

func (remote) SaveTiles([]tlog.Tile, [][]byte) {}

func (log remote) get(path string) ([]byte, error) {
	request, err := http.NewRequest(http.MethodGet, log.url+"/"+path, nil)
	if err != nil {
		return nil, err
	}
	if log.token != "" {
		request.Header.Set("Authorization", "Bearer "+log.token)
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: %s", path, answer.Status)
	}
	return io.ReadAll(answer.Body)
}

// watch reads the newest checkpoint of a log and every leaf hash below it, each checked against the signed root. With an
// auditor's token it also reads every entry, and checks that it hashes to its leaf; with an older checkpoint's file, that the log
// goes on from there.
func watch(vkey, url string, more []string) error {
	count := 0
	log := remote{url: url, tiles: &count}
	note, err := log.get("checkpoint")
	if err != nil {
		return err
	}
	now, err := openCheckpoint(vkey, note)
	if err != nil {
		return err
	}
	reader := tlog.TileHashReader(tlog.Tree{N: now.size, Hash: now.root}, log)
	leaves := make([]int64, now.size)
	for index := range leaves {
		leaves[index] = tlog.StoredHashIndex(0, int64(index))
	}
	hashes, err := reader.ReadHashes(leaves)
	if err != nil {
		return err
	}
	if len(more) > 0 {
		log.token = more[0]
		if err := log.entries(hashes); err != nil {
			return err
		}
	}
	if len(more) > 1 {
		if err := goesOn(vkey, more[1], now, reader); err != nil {
			return err
		}
	}
	fmt.Printf("%s has %d leaves, read from %d tiles\n", now.origin, now.size, count)
	return nil
}

// entries reads all bundles; each entry must hash to its leaf.
func (log remote) entries(leaves []tlog.Hash) error {
	for first := 0; first < len(leaves); first += 256 {
		width := len(leaves) - first
		if width > 256 {
			width = 256
		}
		path := pathOf(tlog.Tile{H: height, L: -1, N: int64(first / 256), W: width})
		data, err := log.get("tile/entries" + path[len("tile/data"):])
		if err != nil {
			return err
		}
		for at := 0; at < width; at++ {
			if len(data) < 2 || len(data) < 2+int(binary.BigEndian.Uint16(data)) {
				return errors.New("a bundle ends within an entry")
			}
			size := 2 + int(binary.BigEndian.Uint16(data))
			if tlog.RecordHash(data[2:size]) != leaves[first+at] {
				return fmt.Errorf("the entry of leaf %d is another", first+at)
			}
			data = data[size:]
		}
		if len(data) > 0 {
			return errors.New("a bundle has more than its entries")
		}
	}
	return nil
}

func goesOn(vkey, path string, now checkpoint, reader tlog.HashReader) error {
	note, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	old, err := openCheckpoint(vkey, note)
	if err != nil {
		return err
	}
	proof, err := tlog.ProveTree(now.size, old.size, reader)
	if err != nil {
		return err
	}
	return tlog.CheckTree(proof, now.size, now.root, old.size, old.root)
}
