# $1 is the package, $2 is "version", "file" or "newest", and $3 the version or file.
case $2 in
file) version=$(rpm --query --nosignature --queryformat='%{VERSION}-%{RELEASE}' --package "$3") what=$3 ;;
version) version=$3 what=$1-$3 ;;
newest) exec dnf -y --refresh upgrade "$1" ;;
esac

is_installed() {
	case $(rpm --query --queryformat='%{VERSION}-%{RELEASE}' "$1") in
	"$version" | "$version"-*) return 0 ;;
	esac
	return 1
}

# dnf installs an older version only with downgrade.
dnf -y install "$what"
is_installed "$1" || dnf -y downgrade "$what"
