//! Merkle trees of RFC 6962: SHA-256, leaves and nodes told apart by their first byte.

use sha2::{Digest, Sha256};

pub type Hash = [u8; 32];

/// What the hash of a leaf begins with.
pub const LEAF_PREFIX: u8 = 0;
const NODE_PREFIX: u8 = 1;

/// The hash of a node over its two children.
pub fn node(left: &Hash, right: &Hash) -> Hash {
    let mut bytes = [NODE_PREFIX; 65];
    bytes[1..33].copy_from_slice(left);
    bytes[33..].copy_from_slice(right);
    Sha256::digest(bytes).into()
}

/// The root over leaf hashes; of none, the hash of nothing.
///
/// Pairing neighbours level by level and promoting the odd one gives the tree that RFC 6962 defines by splitting at the
/// largest power of two.
pub fn root(mut hashes: Vec<Hash>) -> Hash {
    if hashes.is_empty() {
        return Sha256::digest([]).into();
    }
    while hashes.len() > 1 {
        let paired = hashes.chunks(2).map(|pair| if let [left, right] = pair { node(left, right) } else { pair[0] });
        hashes = paired.collect();
    }
    hashes[0]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaf(data: &[u8]) -> Hash {
        Sha256::digest([&[LEAF_PREFIX], data].concat()).into()
    }

    fn bytes(hex: &str) -> Hash {
        let digits: Vec<u8> = hex.bytes().map(|digit| char::from(digit).to_digit(16).unwrap() as u8).collect();
        digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect::<Vec<u8>>().try_into().unwrap()
    }

    #[test]
    fn roots_are_those_of_certificate_transparency() {
        let data: [&[u8]; 8] = [
            &[],
            &[0x00],
            &[0x10],
            &[0x20, 0x21],
            &[0x30, 0x31],
            &[0x40, 0x41, 0x42, 0x43],
            &[0x50, 0x51, 0x52, 0x53, 0x54, 0x55, 0x56, 0x57],
            &[0x60, 0x61, 0x62, 0x63, 0x64, 0x65, 0x66, 0x67, 0x68, 0x69, 0x6a, 0x6b, 0x6c, 0x6d, 0x6e, 0x6f],
        ];
        let leaves: Vec<Hash> = data.iter().map(|each| leaf(each)).collect();
        assert_eq!(root(Vec::new()), bytes("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"));
        assert_eq!(
            root(leaves[..1].to_vec()),
            bytes("6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d")
        );
        assert_eq!(
            root(leaves[..7].to_vec()),
            bytes("ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c")
        );
        assert_eq!(root(leaves), bytes("5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328"));
    }

    #[test]
    fn roots_are_those_of_the_recursive_definition() {
        fn defined(hashes: &[Hash]) -> Hash {
            if let [only] = hashes {
                return *only;
            }
            let split = hashes.len().next_power_of_two() / 2;
            node(&defined(&hashes[..split]), &defined(&hashes[split..]))
        }
        let leaves: Vec<Hash> = (0..130_u32).map(|n| leaf(&n.to_le_bytes())).collect();
        for size in 1..=leaves.len() {
            assert_eq!(root(leaves[..size].to_vec()), defined(&leaves[..size]), "{size}");
        }
    }
}
