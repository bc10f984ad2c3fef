//! Network devices: what ethtool asks and sets, and promiscuity. Control threads only.
//!
//! A device is named as `ip link` shows it; the calls are about the network namespace of the thread
//! that made the value. Source: `linux/ethtool.h`, `linux/if_packet.h`.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// Bytes of a string in ethtool's answers.
const STRING: usize = 32;
/// Longest name of a device, without the closing zero.
const NAME_MAX: usize = 15;
const ETH_SS_FEATURES: u32 = 4;
const ETHTOOL_GDRVINFO: u32 = 0x03;
const ETHTOOL_GSTRINGS: u32 = 0x1b;
const ETHTOOL_GSSET_INFO: u32 = 0x37;
const ETHTOOL_GFEATURES: u32 = 0x3a;
const ETHTOOL_SFEATURES: u32 = 0x3b;
const ETHTOOL_GCHANNELS: u32 = 0x3c;
const ETHTOOL_SCHANNELS: u32 = 0x3d;
/// More features than any kernel has, as a bound on what is allocated by its word.
const FEATURES_MAX: usize = 1024;

/// One of a device's offloads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Feature {
    /// As in `ethtool -k`, in the kernel's words: `rx-vlan-hw-parse`.
    pub name: String,
    /// Whether it is asked for. In force it may still be otherwise.
    pub is_wanted: bool,
    /// Whether it is in force.
    pub is_active: bool,
    /// Whether it can be changed.
    pub is_settable: bool,
}

/// How many queues of each kind a device has, and could have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Channels {
    /// Queues that receive only.
    pub rx: u32,
    /// Queues that send only.
    pub tx: u32,
    /// Queues for other interrupts.
    pub other: u32,
    /// Queue pairs.
    pub combined: u32,
    /// The most of [`Channels::rx`].
    pub rx_max: u32,
    /// The most of [`Channels::tx`].
    pub tx_max: u32,
    /// The most of [`Channels::combined`].
    pub combined_max: u32,
}

/// Asks and tells devices. Errors are the kernel's: `ENODEV` where there is no such device,
/// `EOPNOTSUPP` where its driver can't answer, `EPERM` without CAP_NET_ADMIN.
#[derive(Debug)]
pub struct Ethtool(OwnedFd);

impl Ethtool {
    /// For devices of this thread's network namespace.
    ///
    /// # Errors
    /// When the process has no more file descriptors.
    pub fn new() -> io::Result<Self> {
        Ok(Self(socket(libc::AF_INET, libc::SOCK_DGRAM)?))
    }

    /// The driver's name: `veth`, `ixgbe`.
    ///
    /// # Errors
    /// The kernel's.
    pub fn driver(&self, device: &str) -> io::Result<String> {
        let mut words = [0u32; 49];
        words[0] = ETHTOOL_GDRVINFO;
        self.ask(device, &mut words)?;
        Ok(text(&bytes(&words)[4..4 + STRING]))
    }

    /// Every offload, in the kernel's order.
    ///
    /// # Errors
    /// The kernel's.
    pub fn features(&self, device: &str) -> io::Result<Vec<Feature>> {
        let names = self.feature_names(device)?;
        let n_blocks = names.len().div_ceil(32);
        let mut words = vec![0u32; 2 + 4 * n_blocks];
        words[0] = ETHTOOL_GFEATURES;
        words[1] = u32::try_from(n_blocks).unwrap_or(0);
        self.ask(device, &mut words)?;
        let feature = |(idx, name): (usize, String)| {
            let block = &words[2 + 4 * (idx / 32)..][..4];
            let is_set = |word: u32| word >> (idx % 32) & 1 == 1;
            // The block's words: available, requested, active, never changed.
            Feature {
                name,
                is_wanted: is_set(block[1]),
                is_active: is_set(block[2]),
                is_settable: is_set(block[0]) && !is_set(block[3]),
            }
        };
        Ok(names
            .into_iter()
            .enumerate()
            .filter(|(_, name)| !name.is_empty())
            .map(feature)
            .collect())
    }

    /// Asks for offloads by name, all at once. Whether they came into force is for
    /// [`Ethtool::features`] to say.
    ///
    /// # Errors
    /// The kernel's; `NotFound` for a name it doesn't know.
    pub fn set_features(&self, device: &str, offload: &[(&str, bool)]) -> io::Result<()> {
        let names = self.feature_names(device)?;
        let n_blocks = names.len().div_ceil(32);
        let mut words = vec![0u32; 2 + 2 * n_blocks];
        words[0] = ETHTOOL_SFEATURES;
        words[1] = u32::try_from(n_blocks).unwrap_or(0);
        for (name, is_on) in offload {
            let idx = names.iter().position(|known| known == name);
            let idx = idx.ok_or_else(|| {
                io::Error::new(io::ErrorKind::NotFound, format!("no offload {name}"))
            })?;
            let block = 2 + 2 * (idx / 32);
            // The block's words: valid, requested.
            words[block] |= 1 << (idx % 32);
            words[block + 1] |= u32::from(*is_on) << (idx % 32);
        }
        self.ask(device, &mut words)
    }

    /// How many queues there are.
    ///
    /// # Errors
    /// The kernel's.
    pub fn channels(&self, device: &str) -> io::Result<Channels> {
        let mut words = [0u32; 9];
        words[0] = ETHTOOL_GCHANNELS;
        self.ask(device, &mut words)?;
        let [_, rx_max, tx_max, _, combined_max, rx, tx, other, combined] = words;
        Ok(Channels {
            rx,
            tx,
            other,
            combined,
            rx_max,
            tx_max,
            combined_max,
        })
    }

    /// Sets how many queues there are; the maxima are ignored.
    ///
    /// # Errors
    /// The kernel's.
    pub fn set_channels(&self, device: &str, channels: &Channels) -> io::Result<()> {
        let Channels {
            rx,
            tx,
            other,
            combined,
            ..
        } = *channels;
        self.ask(
            device,
            &mut [ETHTOOL_SCHANNELS, 0, 0, 0, 0, rx, tx, other, combined],
        )
    }

    /// Names by bit; empty: a bit without one.
    fn feature_names(&self, device: &str) -> io::Result<Vec<String>> {
        // Command, reserved, a mask of 64 bits, the answer.
        let mut words = [ETHTOOL_GSSET_INFO, 0, 1 << ETH_SS_FEATURES, 0, 0];
        self.ask(device, &mut words)?;
        let n = words[4];
        let n_bytes = usize::try_from(n).unwrap_or(usize::MAX).min(FEATURES_MAX) * STRING;
        let mut words = vec![0u32; 3 + n_bytes / 4];
        words[..3].copy_from_slice(&[ETHTOOL_GSTRINGS, ETH_SS_FEATURES, n]);
        self.ask(device, &mut words)?;
        Ok(bytes(&words[3..]).chunks_exact(STRING).map(text).collect())
    }

    /// One request; the answer is in its place. Every caller above has room for the longest answer
    /// to its command: of fixed length, or of the length that it names in the request, which the
    /// kernel minds.
    fn ask(&self, device: &str, words: &mut [u32]) -> io::Result<()> {
        const SIOCETHTOOL: libc::Ioctl = 0x8946;
        if device.len() > NAME_MAX {
            return Err(io::Error::from_raw_os_error(libc::ENODEV));
        }
        // SAFETY: all-zero is a valid `ifreq`.
        let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
        for (to, from) in request.ifr_name.iter_mut().zip(device.bytes()) {
            *to = from.cast_signed();
        }
        request.ifr_ifru.ifru_data = words.as_mut_ptr().cast();
        // SAFETY: the fd is open; name and words are valid for the call; the words have room for
        // the answer, see above.
        let done = unsafe { libc::ioctl(self.0.as_raw_fd(), SIOCETHTOOL, &raw mut request) };
        if done < 0 {
            Err(io::Error::last_os_error())
        } else {
            Ok(())
        }
    }
}

fn bytes(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}

fn text(bytes: &[u8]) -> String {
    let end = bytes
        .iter()
        .position(|&byte| byte == 0)
        .unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

/// A device that takes frames to any address as long as the value lives. The kernel undoes it when
/// the process ends, however it ends.
#[derive(Debug)]
pub struct Promiscuous {
    _membership: OwnedFd,
}

impl Promiscuous {
    /// Makes the device with this index so.
    ///
    /// # Errors
    /// The kernel's: `EPERM` without CAP_NET_RAW, `ENODEV`.
    pub fn make(ifindex: u32) -> io::Result<Self> {
        // Protocol 0: the socket itself receives nothing.
        let socket = socket(libc::AF_PACKET, libc::SOCK_RAW)?;
        let membership = libc::packet_mreq {
            mr_ifindex: i32::try_from(ifindex).unwrap_or(-1),
            mr_type: u16::try_from(libc::PACKET_MR_PROMISC).unwrap_or(0),
            mr_alen: 0,
            mr_address: [0; 8],
        };
        // SAFETY: the fd is open, `membership` valid for the call and of the length that is said.
        let done = unsafe {
            libc::setsockopt(
                socket.as_raw_fd(),
                libc::SOL_PACKET,
                libc::PACKET_ADD_MEMBERSHIP,
                (&raw const membership).cast(),
                libc::socklen_t::try_from(size_of_val(&membership)).unwrap_or(0),
            )
        };
        if done < 0 {
            Err(io::Error::last_os_error())
        } else {
            Ok(Self {
                _membership: socket,
            })
        }
    }
}

fn socket(family: i32, kind: i32) -> io::Result<OwnedFd> {
    // SAFETY: a plain call; its answer is checked.
    let fd = unsafe { libc::socket(family, kind | libc::SOCK_CLOEXEC, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: `fd` is open and nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

#[cfg(all(test, not(miri)))]
mod tests {
    use super::*;

    #[test]
    fn every_machine_has_a_loopback_whose_offloads_can_be_read() {
        let features = Ethtool::new().unwrap().features("lo").unwrap();
        let gro = features
            .iter()
            .find(|feature| feature.name == "rx-gro")
            .unwrap();
        assert!(gro.is_settable, "{gro:?}");
        let fixed = features
            .iter()
            .find(|feature| feature.name == "netns-local" || feature.name == "loopback");
        assert!(
            fixed.is_none_or(|feature| !feature.is_settable),
            "{fixed:?}"
        );
    }

    #[test]
    fn absent_devices_and_offloads_are_errors() {
        let ethtool = Ethtool::new().unwrap();
        for name in ["nosuchdevice", "a-name-longer-than-any", ""] {
            let error = ethtool.features(name).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::ENODEV), "{name}: {error}");
        }
        let error = ethtool
            .set_features("lo", &[("rx-magic", true)])
            .unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        assert_eq!(
            ethtool.channels("lo").unwrap_err().raw_os_error(),
            Some(libc::EOPNOTSUPP)
        );
    }
}
