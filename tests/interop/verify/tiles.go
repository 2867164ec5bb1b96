package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/mod/sumdb/tlog"
)

const height = 8

// Every hash of a tree, as Go's tlog numbers them.
type stored []tlog.Hash

func (hashes stored) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	found := make([]tlog.Hash, len(indexes))
	for at, index := range indexes {
		if index >= int64(len(hashes)) {
			return nil, fmt.Errorf("no hash %d", index)
		}
		found[at] = hashes[index]
	}
	return found, nil
}

// tiles makes the tiles of a tree over the lines of a file, and compares them with those in a folder: the same names, the same
// bytes, and none too many. It prints their number, and the root of the tree that a client reads out of the folder.
func tiles(entriesPath, folder string) error {
	hashes, size, err := treeOf(entriesPath)
	if err != nil {
		return err
	}
	expected := map[string]bool{}
	for _, tile := range tlog.NewTiles(height, 0, size) {
		data, err := tlog.ReadTileData(tile, hashes)
		if err != nil {
			return err
		}
		name := pathOf(tile)
		expected[name] = true
		found, err := os.ReadFile(filepath.Join(folder, filepath.FromSlash(name)))
		if err != nil {
			return err
		}
		if !bytes.Equal(found, data) {
			return fmt.Errorf("%s differs from Go's", name)
		}
	}
	if err := noneTooMany(folder, expected); err != nil {
		return err
	}
	root, err := rootFrom(folder, hashes, size)
	if err != nil {
		return err
	}
	fmt.Printf("%d tiles\n%s\n", len(expected), root)
	return nil
}

func treeOf(path string) (stored, int64, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, 0, err
	}
	defer file.Close()
	var hashes stored
	var size int64
	lines := bufio.NewScanner(file)
	for ; lines.Scan(); size++ {
		more, err := tlog.StoredHashes(size, lines.Bytes(), hashes)
		if err != nil {
			return nil, 0, err
		}
		hashes = append(hashes, more...)
	}
	return hashes, size, lines.Err()
}

// Go's own paths have the height in front, which tlog-tiles leaves out because it is always 8.
func pathOf(tile tlog.Tile) string {
	return "tile/" + strings.TrimPrefix(tile.Path(), fmt.Sprintf("tile/%d/", height))
}

func noneTooMany(folder string, expected map[string]bool) error {
	return filepath.WalkDir(folder, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		name, err := filepath.Rel(folder, path)
		if err == nil && !expected[filepath.ToSlash(name)] {
			err = fmt.Errorf("%s is no tile of this tree", name)
		}
		return err
	})
}

// A folder of tiles as Go's client sees it.
type served struct{ folder string }

func (served) Height() int { return height }

func (tiles served) ReadTiles(wanted []tlog.Tile) ([][]byte, error) {
	found := make([][]byte, 0, len(wanted))
	for _, tile := range wanted {
		data, err := os.ReadFile(filepath.Join(tiles.folder, filepath.FromSlash(pathOf(tile))))
		if err != nil {
			return nil, err
		}
		found = append(found, data)
	}
	return found, nil
}

func (served) SaveTiles([]tlog.Tile, [][]byte) {}

// Reads every leaf hash through the tiles, which checks each tile against the root.
func rootFrom(folder string, hashes stored, size int64) (tlog.Hash, error) {
	root, err := tlog.TreeHash(size, hashes)
	if err != nil {
		return root, err
	}
	reader := tlog.TileHashReader(tlog.Tree{N: size, Hash: root}, served{folder})
	indexes := make([]int64, size)
	for index := range indexes {
		indexes[index] = tlog.StoredHashIndex(0, int64(index))
	}
	found, err := reader.ReadHashes(indexes)
	if err != nil {
		return root, err
	}
	for index, at := range indexes {
		if found[index] != hashes[at] {
			return root, fmt.Errorf("leaf %d differs", index)
		}
	}
	return root, nil
}
