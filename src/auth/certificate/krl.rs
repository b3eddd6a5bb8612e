//! OpenSSH key revocation lists, the binary files of `ssh-keygen -k` (openssh-portable `PROTOCOL.krl`).
//!
//! Invariant: a list is read whole or not at all. A truncated section, a trailing byte, a section type or a critical
//! extension that is not known: each is an error, because what we cannot read might be what revokes somebody.
//! Where the specification is silent this does as OpenSSH's `krl.c` does. Two parts deserve a word:
//!
//! - *Signatures* inside a list are refused, as OpenSSH does since 9.4: a signature that nobody verifies only looks
//!   like protection. The list is trusted because of the file that it is read from.
//! - *Serial 0* is what a CA writes that does not number its certificates; a list can neither name it nor revoke it.

use std::collections::HashSet;

use super::marks::{KeyMarks, Marks};

const MAGIC: &[u8; 8] = b"SSHKRL\n\0";
const FORMAT_VERSION: u32 = 1;

const SECTION_CERTIFICATES: u8 = 1;
const SECTION_EXPLICIT_KEY: u8 = 2;
const SECTION_FINGERPRINT_SHA1: u8 = 3;
const SECTION_SIGNATURE: u8 = 4;
const SECTION_FINGERPRINT_SHA256: u8 = 5;
const SECTION_EXTENSION: u8 = 255;

const CERT_SERIAL_LIST: u8 = 0x20;
const CERT_SERIAL_RANGE: u8 = 0x21;
const CERT_SERIAL_BITMAP: u8 = 0x22;
const CERT_KEY_ID: u8 = 0x23;
const CERT_EXTENSION: u8 = 0x39;

/// The longest bitmap that is read, in bytes: 2^24 bits, the limit of OpenSSH's `bitmap.c`.
const BITMAP_MAX_BYTES: usize = (1 << 24) / 8;

/// A revocation list, ready for questions.
#[derive(Debug, Default)]
pub struct Krl {
    version: u64,
    certificates: Vec<CertificateSection>,
    keys: HashSet<Box<[u8]>>,
    sha1: HashSet<[u8; 20]>,
    sha256: HashSet<[u8; 32]>,
}

/// What one CA, or any CA, has revoked.
#[derive(Debug)]
struct CertificateSection {
    /// The CA's public key as on the wire; none means every CA.
    ca: Option<Box<[u8]>>,
    serials: HashSet<u64>,
    ranges: Vec<(u64, u64)>,
    bitmaps: Vec<Bitmap>,
    key_ids: HashSet<Box<[u8]>>,
}

/// Bit `n` stands for the serial `offset + n`.
#[derive(Debug)]
struct Bitmap {
    offset: u64,
    /// Big-endian, as in the file, without leading zeros.
    bits: Box<[u8]>,
}

/// Why a list cannot be read, and where.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("no usable key revocation list: {problem} (byte {offset}); make it with `ssh-keygen -k`")]
pub struct KrlError {
    problem: &'static str,
    offset: usize,
}

impl Krl {
    /// Reads a list.
    pub fn parse(bytes: &[u8]) -> Result<Krl, KrlError> {
        let mut reader = Reader { rest: bytes, start: 0, length: bytes.len() };
        if reader.take(MAGIC.len())? != MAGIC {
            return Err(KrlError { problem: "it does not begin with `SSHKRL`", offset: 0 });
        }
        if reader.u32()? != FORMAT_VERSION {
            return Err(reader.wrong("its format version is not 1"));
        }
        let mut krl = Krl { version: reader.u64()?, ..Krl::default() };
        let _generated = reader.u64()?;
        // "No flags are currently defined", and OpenSSH does not look at them either.
        let _flags = reader.u64()?;
        let _reserved = reader.string()?;
        let _comment = reader.string()?;
        while !reader.is_empty() {
            let section = reader.u8()?;
            if section == SECTION_SIGNATURE {
                return Err(reader.wrong("it carries a signature, which is not supported"));
            }
            krl.section(section, reader.string()?)?;
        }
        Ok(krl)
    }

    /// The number that its maker raises with each change.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// What in this list revokes the certificate, in words for the operator; none if nothing does.
    pub fn revokes(&self, marks: &Marks) -> Option<&'static str> {
        if self.has_key(&marks.key) {
            return Some("its key is revoked");
        }
        if self.has_key(&marks.ca) {
            return Some("the key of its CA is revoked");
        }
        self.certificates.iter().find_map(|section| section.revokes(marks))
    }

    fn has_key(&self, key: &KeyMarks) -> bool {
        self.keys.contains(key.blob()) || self.sha256.contains(key.sha256()) || self.sha1.contains(key.sha1())
    }

    fn section(&mut self, section: u8, mut body: Reader<'_>) -> Result<(), KrlError> {
        match section {
            SECTION_CERTIFICATES => self.certificates.push(CertificateSection::parse(body)?),
            SECTION_EXPLICIT_KEY => {
                while !body.is_empty() {
                    self.keys.insert(body.string()?.rest.into());
                }
            }
            SECTION_FINGERPRINT_SHA1 => {
                while !body.is_empty() {
                    self.sha1.insert(body.string()?.hash("a SHA-1 fingerprint is not 20 bytes long")?);
                }
            }
            SECTION_FINGERPRINT_SHA256 => {
                while !body.is_empty() {
                    self.sha256.insert(body.string()?.hash("a SHA-256 fingerprint is not 32 bytes long")?);
                }
            }
            SECTION_EXTENSION => extension(body)?,
            _ => return Err(body.wrong("it has a section of an unknown type")),
        }
        Ok(())
    }
}

impl CertificateSection {
    fn parse(mut body: Reader<'_>) -> Result<CertificateSection, KrlError> {
        let ca = body.string()?.rest;
        let _reserved = body.string()?;
        let mut section = CertificateSection {
            ca: (!ca.is_empty()).then(|| ca.into()),
            serials: HashSet::new(),
            ranges: Vec::new(),
            bitmaps: Vec::new(),
            key_ids: HashSet::new(),
        };
        while !body.is_empty() {
            let kind = body.u8()?;
            section.subsection(kind, body.string()?)?;
        }
        Ok(section)
    }

    fn subsection(&mut self, kind: u8, mut body: Reader<'_>) -> Result<(), KrlError> {
        match kind {
            CERT_SERIAL_LIST => {
                while !body.is_empty() {
                    let serial = body.u64()?;
                    if serial == 0 {
                        return Err(body.wrong("it lists the serial 0"));
                    }
                    self.serials.insert(serial);
                }
            }
            CERT_SERIAL_RANGE => {
                let (first, last) = (body.u64()?, body.u64()?);
                if first == 0 || first > last {
                    return Err(body.wrong("it has a range of serials that begins at 0 or after its end"));
                }
                self.ranges.push((first, last));
                body.end()?;
            }
            CERT_SERIAL_BITMAP => {
                let offset = body.u64()?;
                let bits = body.string()?;
                body.end()?;
                self.bitmaps.push(Bitmap::parse(offset, bits)?);
            }
            CERT_KEY_ID => {
                while !body.is_empty() {
                    self.key_ids.insert(body.string()?.rest.into());
                }
            }
            CERT_EXTENSION => extension(body)?,
            _ => return Err(body.wrong("it has a certificate section of an unknown type")),
        }
        Ok(())
    }

    fn revokes(&self, marks: &Marks) -> Option<&'static str> {
        if self.ca.as_ref().is_some_and(|ca| **ca != *marks.ca.blob()) {
            return None;
        }
        if self.key_ids.contains(marks.key_id.as_bytes()) {
            return Some("its key id is revoked");
        }
        let serial = marks.serial;
        let listed = serial != 0
            && (self.serials.contains(&serial)
                || self.ranges.iter().any(|(first, last)| (*first..=*last).contains(&serial))
                || self.bitmaps.iter().any(|bitmap| bitmap.contains(serial)));
        listed.then_some("its serial is revoked")
    }
}

impl Bitmap {
    fn parse(offset: u64, bits: Reader<'_>) -> Result<Bitmap, KrlError> {
        if bits.rest.first().is_some_and(|first| first & 0x80 != 0) {
            return Err(bits.wrong("it has a bitmap that is a negative number"));
        }
        let zeros = bits.rest.iter().take_while(|byte| **byte == 0).count();
        let (_, significant) = bits.rest.split_at(zeros);
        if significant.len() > BITMAP_MAX_BYTES {
            return Err(bits.wrong("it has a bitmap of more than 16777216 bits"));
        }
        let last_bit = (significant.len() as u64).saturating_mul(8).saturating_sub(1);
        if offset.checked_add(last_bit).is_none() {
            return Err(bits.wrong("it has a bitmap that reaches beyond the largest serial"));
        }
        Ok(Bitmap { offset, bits: significant.into() })
    }

    fn contains(&self, serial: u64) -> bool {
        let Some(bit) = serial.checked_sub(self.offset) else { return false };
        let Ok(byte) = usize::try_from(bit / 8) else { return false };
        self.bits.iter().nth_back(byte).is_some_and(|byte| byte & (1 << (bit % 8)) != 0)
    }
}

/// An extension that is critical must be understood, and none is; any other may be passed over.
fn extension(mut body: Reader<'_>) -> Result<(), KrlError> {
    let _name = body.string()?;
    let critical = body.u8()? != 0;
    let _contents = body.string()?;
    body.end()?;
    if critical { Err(body.wrong("it has a critical extension, and none is supported")) } else { Ok(()) }
}

/// The unread part of a list. Never reads past its end, and knows where it is for the error's sake.
struct Reader<'a> {
    rest: &'a [u8],
    /// Where in the file this part begins, and how long it was.
    start: usize,
    length: usize,
}

impl<'a> Reader<'a> {
    fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    fn wrong(&self, problem: &'static str) -> KrlError {
        KrlError { problem, offset: self.start.saturating_add(self.length.saturating_sub(self.rest.len())) }
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], KrlError> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or_else(|| self.wrong("it is cut short"))?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], KrlError> {
        let (taken, rest) = self.rest.split_first_chunk::<N>().ok_or_else(|| self.wrong("it is cut short"))?;
        self.rest = rest;
        Ok(*taken)
    }

    fn u8(&mut self) -> Result<u8, KrlError> {
        self.array::<1>().map(u8::from_be_bytes)
    }

    fn u32(&mut self) -> Result<u32, KrlError> {
        self.array().map(u32::from_be_bytes)
    }

    fn u64(&mut self) -> Result<u64, KrlError> {
        self.array().map(u64::from_be_bytes)
    }

    /// RFC 4251 section 5: a length, then as many bytes.
    fn string(&mut self) -> Result<Reader<'a>, KrlError> {
        let length = usize::try_from(self.u32()?).map_err(|_| self.wrong("it is cut short"))?;
        let start = self.start.saturating_add(self.length.saturating_sub(self.rest.len()));
        Ok(Reader { rest: self.take(length)?, start, length })
    }

    fn hash<const N: usize>(&self, problem: &'static str) -> Result<[u8; N], KrlError> {
        self.rest.try_into().map_err(|_| self.wrong(problem))
    }

    fn end(&self) -> Result<(), KrlError> {
        if self.is_empty() { Ok(()) } else { Err(self.wrong("it has bytes after the end of a section")) }
    }
}
