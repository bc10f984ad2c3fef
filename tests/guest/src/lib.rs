//! A software guest: the driver half of vhost-user and virtio-net.
