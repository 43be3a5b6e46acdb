# $1 is the package, $2 "version", "file" or "newest", and $3 which.
case $2 in
file) version=$(rpm --query --nosignature --queryformat='%{VERSION}-%{RELEASE}' --package "$3") what=$3 ;;
version) version=$3 what=$1-$3 ;;
newest) exec dnf -y --refresh upgrade "$1" ;;
esac

there() {
	case $(rpm --query --queryformat='%{VERSION}-%{RELEASE}' "$1") in
	"$version" | "$version"-*) return 0 ;;
	esac
	return 1
}

# dnf has another word for an older version.
dnf -y install "$what"
there "$1" || dnf -y downgrade "$what"
