//! Walks the elements of a data set (PS3.5 7), without recursion and without reading values that nobody asked for.
//!
//! Sequences of defined length are stepped over unless the caller enters them; those of undefined length must be walked
//! to find their end. Bytes come in pieces that start small, because nearly every header ends within the first one.

use super::tags::{self, DOUBLE_FLOAT_PIXEL_DATA, FLOAT_PIXEL_DATA, PIXEL_DATA, Tag};
use crate::limits::{DICOM_DEPTH, DICOM_ELEMENTS, DICOM_HELD, DICOM_ITEMS};
use crate::{Code, Error, ReadAt, Result};

/// First read: one page holds the header of most images.
const FIRST_PIECE: usize = 4 << 10;
/// Later reads grow up to this.
const LARGEST_PIECE: usize = 64 << 10;
const UNDEFINED: u32 = 0xFFFF_FFFF;
const SQ: [u8; 2] = *b"SQ";
const UN: [u8; 2] = *b"UN";

/// How elements are encoded (PS3.5 annex A).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// A.1
    ImplicitLittleEndian,
    /// A.2, and every encapsulated syntax
    ExplicitLittleEndian,
    /// A.3, retired
    ExplicitBigEndian,
}

impl Encoding {
    fn is_explicit(self) -> bool {
        self != Self::ImplicitLittleEndian
    }

    /// The number in two bytes.
    #[must_use]
    pub fn short(self, bytes: [u8; 2]) -> u16 {
        match self {
            Self::ExplicitBigEndian => u16::from_be_bytes(bytes),
            _ => u16::from_le_bytes(bytes),
        }
    }

    fn long(self, bytes: [u8; 4]) -> u32 {
        match self {
            Self::ExplicitBigEndian => u32::from_be_bytes(bytes),
            _ => u32::from_le_bytes(bytes),
        }
    }

    /// Tag and 32-bit length of eight bytes.
    fn head(self, bytes: [u8; 8]) -> (Tag, u32) {
        let [a, b, c, d, e, f, g, h] = bytes;
        let tag = u32::from(self.short([a, b])) << 16 | u32::from(self.short([c, d]));
        (Tag(tag), self.long([e, f, g, h]))
    }
}

/// One data element, its value not read yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Element {
    /// Its tag.
    pub tag: Tag,
    /// Its value representation; `None` in implicit encoding.
    pub vr: Option<[u8; 2]>,
    /// The byte where the element begins.
    pub at: u64,
    /// The byte where its value begins.
    pub value: u64,
    /// Length of the value in bytes, within what is there; `None` when undefined.
    pub length: Option<u32>,
}

impl Element {
    /// Whether the value is made of items.
    #[must_use]
    pub fn is_sequence(&self) -> bool {
        match self.vr {
            Some(SQ) => true,
            Some(UN) | None => self.length.is_none() || tags::is_read_sequence(self.tag),
            Some(_) => false,
        }
    }

    /// Whether it is one of the three pixel data attributes.
    #[must_use]
    pub fn is_pixel_data(&self) -> bool {
        matches!(self.tag, PIXEL_DATA | FLOAT_PIXEL_DATA | DOUBLE_FLOAT_PIXEL_DATA)
    }
}

/// What comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// An element of the data set or of an item that the caller entered.
    Element(Element),
    /// An item of a sequence that the caller entered begins.
    Item,
    /// An item of a sequence that the caller entered has ended.
    ItemEnd,
    /// The data set has ended.
    End,
}

/// A sequence that is being walked.
struct Level {
    sequence: Tag,
    wanted: bool,
    encoding: Encoding,
    items: u32,
    /// Where it must end, for a defined length.
    end: Option<u64>,
    /// Where nothing of it can be any more: its own end or that of what holds it.
    bound: u64,
    item: Option<Item>,
}

#[derive(Clone, Copy)]
struct Item {
    end: Option<u64>,
    bound: u64,
}

/// A walk over one file.
pub struct Reader<'a, S: ReadAt + ?Sized> {
    window: Window<'a, S>,
    part: &'a str,
    position: u64,
    encoding: Encoding,
    levels: Vec<Level>,
    pending: Option<Element>,
    elements: u32,
    held: usize,
}

impl<'a, S: ReadAt + ?Sized> Reader<'a, S> {
    /// A walk over `source` from byte 0; `part` names the file in errors.
    pub fn new(source: &'a S, part: &'a str) -> Self {
        Self {
            window: Window { source, size: source.size(), start: 0, held: Vec::new(), piece: FIRST_PIECE },
            part,
            position: 0,
            encoding: Encoding::ExplicitLittleEndian,
            levels: Vec::new(),
            pending: None,
            elements: 0,
            held: 0,
        }
    }

    /// Goes on at byte `position` of the top level, in `encoding`.
    pub fn start(&mut self, position: u64, encoding: Encoding) {
        self.position = position;
        self.encoding = encoding;
        self.pending = None;
    }

    /// How the top level is encoded.
    #[must_use]
    pub fn encoding(&self) -> Encoding {
        self.encoding
    }

    /// Length of the file in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.window.size
    }

    /// The first byte behind the last element that was returned, or behind its header when it is of undefined length.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.pending.map_or(self.position, |element| element.value + u64::from(element.length.unwrap_or(0)))
    }

    /// How many sequences the walk is inside of.
    #[must_use]
    pub fn depth(&self) -> usize {
        self.levels.len()
    }

    /// The sequence that holds the current item, `outward` 0 for the innermost.
    #[must_use]
    pub fn sequence(&self, outward: usize) -> Option<Tag> {
        self.levels.iter().rev().nth(outward).map(|level| level.sequence)
    }

    /// `length` bytes at `at`, or what is there before the end of the file.
    pub fn peek(&mut self, at: u64, length: usize) -> Result<&[u8]> {
        let there = self.window.size.saturating_sub(at).min(length as u64) as usize;
        self.window.get(at, there)
    }

    /// A refusal of this file at byte `at`.
    pub fn refuse(&self, at: u64, why: impl Into<String>) -> Error {
        Error::refused_at(Code::Dicom, self.part, at, why)
    }

    /// A file that does not begin like DICOM.
    pub fn foreign(&self, why: &str) -> Error {
        Error::refused_at(Code::NotDicom, self.part, 0, why)
    }

    fn over_limit(&self, at: u64, why: String) -> Error {
        Error::refused_at(Code::Limit, self.part, at, why)
    }

    /// The value of `element`, at most `DICOM_HELD` bytes for all values of one file together.
    pub fn value(&mut self, element: &Element) -> Result<&[u8]> {
        let Some(length) = element.length else {
            return Err(self.refuse(element.at, format!("{} has an undefined length and is no sequence", element.tag)));
        };
        self.held += length as usize;
        if self.held > DICOM_HELD {
            return Err(self.over_limit(
                element.at,
                format!("with {} the values to be kept are over {DICOM_HELD} bytes", element.tag),
            ));
        }
        self.window.get(element.value, length as usize)
    }

    /// Walks into the sequence that was just returned.
    pub fn enter(&mut self, element: &Element) -> Result<()> {
        self.pending = None;
        self.push(element, true)
    }

    /// The next element, item or end.
    pub fn next_event(&mut self) -> Result<Event> {
        if let Some(element) = self.pending.take() {
            match element.length {
                Some(length) => self.position = element.value + u64::from(length),
                None => self.push(&element, false)?,
            }
        }
        loop {
            let (encoding, bound, wanted, in_item) = match self.levels.last() {
                None => (self.encoding, self.window.size, true, true),
                Some(Level { item: Some(item), encoding, wanted, .. }) => {
                    if item.end == Some(self.position) {
                        if self.leave_item() {
                            return Ok(Event::ItemEnd);
                        }
                        continue;
                    }
                    (*encoding, item.bound, *wanted, true)
                }
                Some(level) => {
                    if level.end == Some(self.position) {
                        self.levels.pop();
                        continue;
                    }
                    (level.encoding, level.bound, level.wanted, false)
                }
            };
            if self.levels.is_empty() && self.position == bound {
                return Ok(Event::End);
            }
            if !in_item {
                if self.item(encoding, bound)? && wanted {
                    return Ok(Event::Item);
                }
                continue;
            }
            let element = self.element(encoding, bound)?;
            if matches!(element.tag, tags::ITEM | tags::SEQUENCE_DELIMITATION) {
                return Err(self.refuse(element.at, format!("{} where an element must be", element.tag)));
            }
            if element.tag == tags::ITEM_DELIMITATION {
                self.end_of_item(&element)?;
                if self.leave_item() {
                    return Ok(Event::ItemEnd);
                }
                continue;
            }
            if wanted {
                self.pending = Some(element);
                return Ok(Event::Element(element));
            }
            match element.length {
                Some(length) => self.position = element.value + u64::from(length),
                None => self.push(&element, false)?,
            }
        }
    }

    /// Leaves the current item; says whether the caller was inside it.
    fn leave_item(&mut self) -> bool {
        self.levels.last_mut().is_some_and(|level| {
            level.item = None;
            level.wanted
        })
    }

    fn end_of_item(&mut self, element: &Element) -> Result<()> {
        let undefined = self.levels.last().is_some_and(|level| level.item.is_some_and(|item| item.end.is_none()));
        if !undefined || element.length != Some(0) {
            return Err(self.refuse(element.at, "an item delimitation item where none can be"));
        }
        self.position = element.value;
        Ok(())
    }

    fn push(&mut self, element: &Element, wanted: bool) -> Result<()> {
        if self.levels.len() == DICOM_DEPTH {
            return Err(self.over_limit(
                element.at,
                format!("{} is a sequence at level {}, the limit is {DICOM_DEPTH}", element.tag, DICOM_DEPTH + 1),
            ));
        }
        let (encoding, bound) = self.levels.last().map_or((self.encoding, self.window.size), |level| {
            (level.encoding, level.item.map_or(level.bound, |item| item.bound))
        });
        let end = element.length.map(|length| element.value + u64::from(length));
        self.levels.push(Level {
            sequence: element.tag,
            wanted,
            // What was not known to its writer was passed on in implicit encoding (PS3.5 6.2.2, note 2).
            encoding: if element.vr == Some(UN) { Encoding::ImplicitLittleEndian } else { encoding },
            items: 0,
            end,
            bound: end.unwrap_or(bound),
            item: None,
        });
        self.position = element.value;
        Ok(())
    }

    /// Begins the next item, or ends the sequence; says whether an item was begun.
    fn item(&mut self, encoding: Encoding, bound: u64) -> Result<bool> {
        let at = self.position;
        let left = bound - at;
        if left < 8 {
            return Err(self.refuse(at, format!("{left} bytes are left where an item must be")));
        }
        let (tag, length) = encoding.head(self.window.array(at)?);
        let Some(level) = self.levels.last_mut() else { return Ok(false) };
        self.position = at + 8;
        let sequence = level.sequence;
        if tag == tags::SEQUENCE_DELIMITATION && level.end.is_none() && length == 0 {
            self.levels.pop();
            return Ok(false);
        }
        if tag != tags::ITEM {
            return Err(self.refuse(at, format!("{tag} where an item of {sequence} must be")));
        }
        level.items += 1;
        if level.items > DICOM_ITEMS {
            return Err(self.over_limit(at, format!("{sequence} has over {DICOM_ITEMS} items")));
        }
        if length == UNDEFINED {
            level.item = Some(Item { end: None, bound });
            return Ok(true);
        }
        if u64::from(length) > left - 8 {
            return Err(self.refuse(at, format!("an item of {sequence} says {length} bytes, {} are left", left - 8)));
        }
        let end = at + 8 + u64::from(length);
        if !level.wanted {
            self.position = end;
            return Ok(false);
        }
        level.item = Some(Item { end: Some(end), bound: end });
        Ok(true)
    }

    fn element(&mut self, encoding: Encoding, bound: u64) -> Result<Element> {
        let at = self.position;
        let left = bound - at;
        if left < 8 {
            return Err(self.refuse(at, format!("{left} bytes are left where an element must be")));
        }
        self.elements += 1;
        if self.elements > DICOM_ELEMENTS {
            return Err(self.over_limit(at, format!("over {DICOM_ELEMENTS} elements")));
        }
        let head = self.window.array(at)?;
        let (tag, long) = encoding.head(head);
        let [_, _, _, _, a, b, c, d] = head;
        // Some writers mix in single elements without a VR; delimiters never have one.
        let vr = (encoding.is_explicit() && a.is_ascii_uppercase() && b.is_ascii_uppercase()).then_some([a, b]);
        let (value, length) = match vr {
            None => (at + 8, long),
            Some(vr) if !has_long_length(vr) => (at + 8, u32::from(encoding.short([c, d]))),
            Some(_) if left < 12 => {
                return Err(self.refuse(at, format!("{tag} ends inside its length")));
            }
            Some(_) => (at + 12, encoding.long(self.window.array(at + 8)?)),
        };
        let room = bound - value;
        let mut element = Element { tag, vr, at, value, length: Some(length) };
        if length == UNDEFINED && vr.is_none_or(has_long_length) {
            element.length = None;
            if !element.is_sequence() && tag != PIXEL_DATA {
                return Err(self.refuse(at, format!("{tag} has an undefined length and is no sequence")));
            }
        } else if u64::from(length) > room {
            let what = if self.levels.is_empty() { "the file" } else { "its item" };
            return Err(self.refuse(at, format!("{tag} says {length} bytes, {what} has {room} left")));
        }
        Ok(element)
    }
}

/// VRs with two reserved bytes and a 32-bit length (PS3.5 7.1.2).
fn has_long_length(vr: [u8; 2]) -> bool {
    matches!(&vr, b"OB" | b"OD" | b"OF" | b"OL" | b"OV" | b"OW" | b"SQ" | b"SV" | b"UC" | b"UN" | b"UR" | b"UT" | b"UV")
}

/// The piece of the source that is at hand.
struct Window<'a, S: ReadAt + ?Sized> {
    source: &'a S,
    size: u64,
    start: u64,
    held: Vec<u8>,
    piece: usize,
}

impl<S: ReadAt + ?Sized> Window<'_, S> {
    /// `length` bytes at `at`, which the caller has checked to be inside the source.
    #[inline]
    fn get(&mut self, at: u64, length: usize) -> Result<&[u8]> {
        let inside = at >= self.start && at + length as u64 <= self.start + self.held.len() as u64;
        if !inside {
            self.refill(at, length)?;
        }
        let from = (at - self.start) as usize;
        Ok(&self.held[from..from + length])
    }

    /// The next `N` bytes at `at`, under the same condition.
    #[inline]
    fn array<const N: usize>(&mut self, at: u64) -> Result<[u8; N]> {
        let mut bytes = [0; N];
        bytes.copy_from_slice(self.get(at, N)?);
        Ok(bytes)
    }

    fn refill(&mut self, at: u64, length: usize) -> Result<()> {
        let left = self.size.saturating_sub(at);
        let take = left.min(length.max(self.piece) as u64) as usize;
        self.held.resize(take, 0);
        self.start = at;
        if let Err(error) = self.source.read_at(at, &mut self.held) {
            self.held.clear();
            return Err(error);
        }
        self.piece = (self.piece * 4).min(LARGEST_PIECE);
        Ok(())
    }
}
