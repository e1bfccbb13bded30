//! DNS messages: the one question that is asked, and the answers that are given here. Anything else is passed on as it is.
use std::net::IpAddr;

const HEADER: usize = 12;
/// What a client that says nothing else can take by UDP.
pub(super) const UDP_LIMIT: usize = 512;
const LONGEST_NAME: usize = 255;
/// Containers come and go: what was true is soon not.
const TIME_TO_LIVE: u32 = 5;

pub(super) const A: u16 = 1;
pub(super) const PTR: u16 = 12;
pub(super) const AAAA: u16 = 28;
const INTERNET: u16 = 1;

/// How an answer ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The name is there; what was asked of it may not be.
    Found = 0,
    /// Nobody could be asked.
    Failed = 2,
    /// There is no such name.
    NoSuchName = 3,
}

/// A question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Question {
    /// The number that the client gave it.
    pub(super) id: u16,
    /// In small letters, without the dot at the end.
    pub(super) name: String,
    /// What is asked of the name.
    pub(super) kind: u16,
    flags: u16,
    /// Where it ends in its message.
    end: usize,
}

/// What is known of a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Record {
    Address(IpAddr),
    Pointer(String),
}

impl Question {
    /// Reads the question of a query; `None` where it is none, or no ordinary one.
    pub(super) fn read(message: &[u8]) -> Option<Question> {
        const RESPONSE_OR_OPERATION: u16 = 0xf800;
        let (flags, questions) = (half(message, 2)?, half(message, 4)?);
        if flags & RESPONSE_OR_OPERATION != 0 || questions != 1 {
            return None;
        }
        Question::read_section(message, flags)
    }

    /// Whether a message answers this question, as sent under another number.
    pub(super) fn is_answered_by(&self, message: &[u8], id: u16) -> bool {
        const RESPONSE: u16 = 0x8000;
        let Some(flags) = half(message, 2) else { return false };
        let same = |other: Question| (other.name, other.kind) == (self.name.clone(), self.kind);
        flags & RESPONSE != 0
            && half(message, 0) == Some(id)
            && Question::read_section(message, flags).is_some_and(same)
    }

    fn read_section(message: &[u8], flags: u16) -> Option<Question> {
        let mut name = Vec::new();
        let mut at = HEADER;
        loop {
            // No name comes before the first, so nothing can be pointed at.
            let length = usize::from(*message.get(at)?);
            if length == 0 {
                break;
            }
            if length > 63 || name.len() + length + 1 > LONGEST_NAME {
                return None;
            }
            if !name.is_empty() {
                name.push(b'.');
            }
            name.extend(message.get(at + 1..at + 1 + length)?.iter().map(u8::to_ascii_lowercase));
            at += 1 + length;
        }
        let (kind, class) = (half(message, at + 1)?, half(message, at + 3)?);
        if class != INTERNET {
            return None;
        }
        let name = String::from_utf8_lossy(&name).into_owned();
        Some(Question { id: half(message, 0)?, name, kind, flags, end: at + 5 })
    }

    /// The address that a question for a name turns round.
    pub(super) fn reversed(&self) -> Option<IpAddr> {
        if let Some(digits) = self.name.strip_suffix(".in-addr.arpa") {
            let bytes: Vec<u8> = digits.split('.').rev().map(str::parse).collect::<Result<_, _>>().ok()?;
            return <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from);
        }
        let digits: Vec<&str> = self.name.strip_suffix(".ip6.arpa")?.split('.').rev().collect();
        let text = digits.chunks(4).map(|group| group.concat()).collect::<Vec<_>>().join(":");
        let well_formed = digits.len() == 32 && digits.iter().all(|digit| digit.len() == 1);
        well_formed.then(|| text.parse().ok()).flatten()
    }

    /// The answer. One that is longer than `limit` is cut, and says so.
    pub(super) fn answer(&self, query: &[u8], outcome: Outcome, records: &[Record], limit: usize) -> Vec<u8> {
        const RECURSION_WANTED: u16 = 0x0100;
        const ANSWER_WITH_RECURSION: u16 = 0x8080;
        const CUT: u16 = 0x0200;
        let mut message = Vec::new();
        message.extend(self.id.to_be_bytes());
        let flags = ANSWER_WITH_RECURSION | (self.flags & RECURSION_WANTED) | outcome as u16;
        message.extend(flags.to_be_bytes());
        message.extend([0, 1, 0, 0, 0, 0, 0, 0]);
        message.extend(query.get(HEADER..self.end).unwrap_or_default());
        let mut count = 0_u16;
        for record in records {
            let bytes = record.bytes();
            if message.len() + bytes.len() > limit {
                set(&mut message, 2, flags | CUT);
                break;
            }
            message.extend(bytes);
            count += 1;
        }
        set(&mut message, 6, count);
        message
    }
}

impl Record {
    fn bytes(&self) -> Vec<u8> {
        const NAME_OF_THE_QUESTION: [u8; 2] = [0xc0, HEADER as u8];
        let (kind, data) = match self {
            Record::Address(IpAddr::V4(address)) => (A, address.octets().to_vec()),
            Record::Address(IpAddr::V6(address)) => (AAAA, address.octets().to_vec()),
            Record::Pointer(name) => (PTR, labels(name)),
        };
        let mut bytes = NAME_OF_THE_QUESTION.to_vec();
        bytes.extend(kind.to_be_bytes());
        bytes.extend(INTERNET.to_be_bytes());
        bytes.extend(TIME_TO_LIVE.to_be_bytes());
        bytes.extend(u16::try_from(data.len()).unwrap_or(0).to_be_bytes());
        bytes.extend(data);
        bytes
    }
}

fn labels(name: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for label in name.split('.').filter(|label| !label.is_empty()) {
        let label = label.as_bytes();
        let label = label.get(..label.len().min(63)).unwrap_or_default();
        bytes.push(label.len() as u8);
        bytes.extend_from_slice(label);
    }
    bytes.push(0);
    bytes
}

/// Gives a message another number.
pub(super) fn renumber(message: &mut [u8], id: u16) {
    set(message, 0, id);
}

fn set(message: &mut [u8], at: usize, value: u16) {
    for (to, from) in message.iter_mut().skip(at).zip(value.to_be_bytes()) {
        *to = from;
    }
}

fn half(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..at + 2)?.try_into().ok().map(u16::from_be_bytes)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use super::*;

    fn query(name: &str, kind: u16) -> Vec<u8> {
        let mut bytes = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        bytes.extend(labels(name));
        bytes.extend(kind.to_be_bytes());
        bytes.extend([0, 1]);
        bytes
    }

    #[test]
    fn questions_are_read_and_answered() {
        let bytes = query("Web.Example", A);
        let question = Question::read(&bytes).unwrap();
        assert_eq!((question.name.as_str(), question.kind, question.id), ("web.example", A, 0x1234));
        let address = "10.0.0.1".parse().unwrap();
        let answer = question.answer(&bytes, Outcome::Found, &[Record::Address(address)], UDP_LIMIT);
        assert!(question.is_answered_by(&answer, 0x1234) && !question.is_answered_by(&answer, 0x1235));
        assert!(!question.is_answered_by(&bytes, 0x1234));
        assert_eq!(answer[6..8], [0, 1]);
        assert_eq!(answer[answer.len() - 4..], [10, 0, 0, 1]);
        let many = vec![Record::Address(address); 100];
        let answer = question.answer(&bytes, Outcome::Found, &many, UDP_LIMIT);
        assert!(answer.len() <= UDP_LIMIT && answer[2] & 2 == 2);
    }

    #[test]
    fn addresses_are_turned_round() {
        let reversed = |name: &str| Question::read(&query(name, PTR)).unwrap().reversed();
        assert_eq!(reversed("4.3.2.1.in-addr.arpa"), Some("1.2.3.4".parse().unwrap()));
        let six = "2.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.1.0.0.0.0.0.d.f.ip6.arpa";
        assert_eq!(reversed(six), Some("fd00:1::2".parse().unwrap()));
        for name in ["3.2.1.in-addr.arpa", "x.3.2.1.in-addr.arpa", "1.2.ip6.arpa", "web"] {
            assert_eq!(reversed(name), None, "{name}");
        }
    }

    #[test]
    fn what_is_no_question_is_none() {
        let whole = query("web", A);
        for length in 0..whole.len() {
            assert_eq!(Question::read(&whole[..length]), None, "{length}");
        }
        for (place, value) in [(2, 0x81), (5, 2), (12, 0xc0), (12, 64), (20, 3)] {
            let mut bytes = whole.clone();
            bytes[place] = value;
            assert_eq!(Question::read(&bytes), None, "{place}");
        }
        let mut long = vec![0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        long.extend([1, b'a'].repeat(1000));
        assert_eq!(Question::read(&long), None);
    }
}
