package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

const (
	height = 8 // of a tile; 256 hashes wide
	width  = 1 << height
)

// files reads the tiles of a log's folder for tlog.TileHashReader, which verifies them up to the signed root.
type files string

func (files) Height() int                     { return height }
func (files) SaveTiles([]tlog.Tile, [][]byte) {}

func (folder files) ReadTiles(wanted []tlog.Tile) ([][]byte, error) {
	var read [][]byte
	for _, tile := range wanted {
		data, whole, err := folder.read(tile)
		if err != nil {
			return nil, err
		}
		want := tile.W * tlog.HashSize
		if whole {
			want = width * tlog.HashSize
		}
		if len(data) != want {
			return nil, fmt.Errorf("%s has %d bytes, not %d", path(tile), len(data), want)
		}
		read = append(read, data[:tile.W*tlog.HashSize])
	}
	return read, nil
}

// read returns the file of a tile or bundle, and whether it is the full one, which replaces a partial one that is gone.
func (folder files) read(tile tlog.Tile) ([]byte, bool, error) {
	data, err := os.ReadFile(filepath.Join(string(folder), path(tile)))
	if err == nil || tile.W == width || !errors.Is(err, fs.ErrNotExist) {
		return data, tile.W == width, err
	}
	tile.W = width
	data, err = os.ReadFile(filepath.Join(string(folder), path(tile)))
	return data, true, err
}

// path is the name of a tile in C2SP's spelling; that of the checksum database has the height in it, and other entries.
func path(tile tlog.Tile) string {
	name := strings.TrimPrefix(tile.Path(), fmt.Sprintf("tile/%d/", height))
	if rest, found := strings.CutPrefix(name, "data/"); found {
		name = "entries/" + rest
	}
	return "tile/" + name
}

// checkLog verifies the checkpoint, the root, every tile, and every entry against its leaf hash.
func checkLog(folder string, key note.Verifier) error {
	raw, err := os.ReadFile(filepath.Join(folder, "checkpoint"))
	if err != nil {
		return err
	}
	checkpoint, err := openCheckpoint(raw, key)
	if err != nil {
		return fmt.Errorf("checkpoint: %w", err)
	}
	tree := tlog.Tree{N: int64(checkpoint.Size), Hash: tlog.Hash(checkpoint.Hash)}
	hashes := tlog.TileHashReader(tree, files(folder))
	root, err := tlog.TreeHash(tree.N, hashes)
	if err != nil {
		return fmt.Errorf("root: %w", err)
	}
	if root != tree.Hash {
		return fmt.Errorf("root: the tiles lead to %v, and %v is signed", root, tree.Hash)
	}
	for first := int64(0); first < tree.N; first += width {
		if err := checkBundle(files(folder), hashes, first, int(min(width, tree.N-first))); err != nil {
			return err
		}
	}
	fmt.Printf("log %s: %d entries, root %v\n", checkpoint.Origin, checkpoint.Size, root)
	return nil
}

// checkBundle verifies the entries first..first+count-1, which share a tile.
func checkBundle(folder files, hashes tlog.HashReader, first int64, count int) error {
	places := make([]int64, count)
	for i := range places {
		places[i] = tlog.StoredHashIndex(0, first+int64(i))
	}
	leaves, err := hashes.ReadHashes(places)
	if err != nil {
		return fmt.Errorf("leaf hashes from %d: %w", first, err)
	}
	bundle := tlog.Tile{H: height, L: -1, N: first / width, W: count}
	data, whole, err := folder.read(bundle)
	if err != nil {
		return err
	}
	held := count
	if whole {
		held = width
	}
	for i := range held {
		if len(data) < 2 || len(data) < 2+int(binary.BigEndian.Uint16(data)) {
			return fmt.Errorf("%s is cut in entry %d", path(bundle), first+int64(i))
		}
		end := 2 + int(binary.BigEndian.Uint16(data))
		if i < count && tlog.RecordHash(data[2:end]) != leaves[i] {
			return fmt.Errorf("entry %d is not what its leaf hash says", first+int64(i))
		}
		data = data[end:]
	}
	if len(data) > 0 {
		return fmt.Errorf("%s has %d bytes behind its last entry", path(bundle), len(data))
	}
	return nil
}
